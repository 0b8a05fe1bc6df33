// Writes times, sizes and amounts for people.

/** 75.2 -> "1:15"; hours only where there are some. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Writes times like `clock`, with tenths of a second where whole seconds would read alike. */
export function clocks(times) {
  const whole = times.map((time) => clock(time));
  if (new Set(whole).size === whole.length) return whole;
  return times.map((time, place) => `${whole[place]}.${Math.floor(time * 10 + 1e-6) % 10}`);
}

/** 0.734 -> "0.7 s", 95 -> "1 min 35 s". */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Rounds a remaining time, so that it does not flicker: "a few seconds", "about 2 minutes". */
export function timeLeft(seconds) {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} seconds left`;
  const minutes = Math.max(1, Math.round(seconds / 60));
  return `about ${minutes} minute${minutes > 1 ? "s" : ""} left`;
}

/** 1536000 -> "1.5 MB". */
export function bytes(count) {
  const [size, unit] =
    count < 1e6 ? [count / 1e3, "kB"] : count < 1e9 ? [count / 1e6, "MB"] : [count / 1e9, "GB"];
  return `${size < 10 ? Number(size.toFixed(1)) : Math.round(size)} ${unit}`;
}

/** 1 -> "1 frame", 1200 -> "1,200 frames". */
export function amount(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
