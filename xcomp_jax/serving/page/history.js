// Questions and answers, kept in this browser only.

const KEY = "xcomp.history";
const MAX_THREADS = 60;

/** Returns the stored threads, newest first; an unreadable store counts as empty. */
export function readThreads() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY));
    return stored?.version === 1 ? stored.threads : [];
  } catch {
    return [];
  }
}

/** Adds or replaces a thread. The oldest ones make room where the browser's storage is full. */
export function keepThread(thread) {
  const others = readThreads().filter((other) => other.id !== thread.id);
  let threads = [thread, ...others].sort((a, b) => b.created - a.created).slice(0, MAX_THREADS);
  while (threads.length && !write(threads)) threads = threads.slice(0, -1);
}

/** Removes one thread. */
export function dropThread(id) {
  write(readThreads().filter((thread) => thread.id !== id));
}

/** Removes all threads. */
export function dropAll() {
  localStorage.removeItem(KEY);
}

function write(threads) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ version: 1, threads }));
    return true;
  } catch {
    return false;
  }
}
