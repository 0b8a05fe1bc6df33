"""Read frames with decord or PyAV. A program without imports of this package: peers live elsewhere.

    python video_peer.py {decord,pyav} FILE COUNT SIZE

SIZE is the side of resized frames, 0 for native ones. Prints one line of JSON.
"""

import json
import os
import sys
import time

CHUNK = 16


def indices(count, num_frames):
    """Returns `count` evenly spaced frame numbers."""
    step = (num_frames - 1) / max(count - 1, 1)
    return sorted({int(i * step) for i in range(count)})


def decord_frames(path, count):
    """Yields frames as arrays."""
    import decord

    reader = decord.VideoReader(path)
    numbers = indices(count, len(reader))
    for start in range(0, len(numbers), CHUNK):
        yield from reader.get_batch(numbers[start : start + CHUNK]).asnumpy()


def pyav_frames(path, count):
    """Yields frames as arrays; seeks to the key frame before each."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = float(1 / (stream.average_rate * stream.time_base))
        first = stream.start_time or 0
        last = -1
        for number in indices(count, stream.frames):
            target = first + round(number * step)
            container.seek(target, stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts > last and frame.pts >= target - step / 2:
                    last = frame.pts
                    yield frame.to_ndarray(format="rgb24")
                    break


READERS = {"decord": decord_frames, "pyav": pyav_frames}


def main(arguments):
    """Reads the frames and prints their number, seconds and CPU seconds."""
    name, path, count, size = arguments[0], arguments[1], int(arguments[2]), int(arguments[3])
    read = READERS[name]
    began, before, number = time.perf_counter(), sum(os.times()[:4]), 0
    for frame in read(path, count):
        if size:
            from PIL import Image

            Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC)
        number += 1
    seconds, cpu = time.perf_counter() - began, sum(os.times()[:4]) - before
    print(json.dumps({"frames": number, "seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main(sys.argv[1:])
