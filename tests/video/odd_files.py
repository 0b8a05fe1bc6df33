"""Writes small files with the oddities of containers and codecs on which random access depends."""

from __future__ import annotations

from pathlib import Path

from tests.video.clips import ffmpeg

SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=4")
GOP = ("-g", "12", "-bf", "3")
X264 = ("-c:v", "libx264", "-preset", "veryfast", *GOP)
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-g", "12")
X265_QUIET = "log-level=none:pools=none:frame-threads=1:bframes=3:b-adapt=0"

ENCODED: dict[str, tuple[str, ...]] = {
    "closed.mp4": X264,
    "open.mp4": (*X264, "-x264-params", "open-gop=1:scenecut=0"),
    "open.mkv": (*X264, "-x264-params", "open-gop=1:scenecut=0"),
    "pyramid.mkv": (*X264, "-x264-params", "b-pyramid=normal:ref=4:b-adapt=0:scenecut=0"),
    "refresh.mp4": (*X264, "-bf", "0", "-x264-params", "intra-refresh=1"),
    "intra.mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "1"),
    "one_key.mp4": ("-c:v", "libx264", "-preset", "ultrafast", "-g", "1000"),
    "h264.ts": X264,
    "h264.avi": (*X264, "-bf", "0"),
    "b_frames.avi": X264,
    "h264.flv": X264,
    "hevc_open.mp4": (*X265, "-x265-params", f"{X265_QUIET}:open-gop=1:scenecut=0"),
    "hevc_open.mkv": (*X265, "-x265-params", f"{X265_QUIET}:open-gop=1:scenecut=0"),
    "hevc_closed.mp4": (*X265, "-x265-params", f"{X265_QUIET}:open-gop=0:scenecut=0"),
    "hevc_layers.mp4": (*X265, "-x265-params", f"{X265_QUIET}:temporal-layers=1:open-gop=0"),
    "hevc_radl.mp4": (*X265, "-x265-params", f"{X265_QUIET}:open-gop=0:radl=2:scenecut=0"),
    "av1.mp4": ("-c:v", "libsvtav1", "-preset", "12", "-g", "12"),
    "av1.mkv": ("-c:v", "libsvtav1", "-preset", "12", "-g", "12"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "12"),
    "vp8_altref.webm": ("-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "8", "-g", "12"),
    "mpeg4.mp4": ("-c:v", "mpeg4", "-q:v", "3", *GOP),
    "mpeg2.mkv": ("-c:v", "mpeg2video", "-q:v", "3", "-g", "12", "-bf", "2"),
    "fields.mp4": (*X264, "-x264-params", "interlaced=1:scenecut=0"),
    "mjpeg.mov": ("-c:v", "mjpeg", "-q:v", "3"),
}
"""ffmpeg options by file name; every file has 100 frames and, where it can, a key frame in 12."""


def write_odd_files(folder: Path) -> dict[str, Path]:
    """Writes every file of `ENCODED` and those derived from them; returns paths by name."""
    files = {name: folder / name for name in ENCODED}
    for name, path in files.items():
        log = ("-svtav1-params", "lp=1") if "libsvtav1" in ENCODED[name] else ()
        ffmpeg(*SOURCE, "-pix_fmt", "yuv420p", *ENCODED[name], *log, str(path))
    copies: dict[str, tuple[str, tuple[str, ...]]] = {
        "cut.mp4": ("closed.mp4", ("-ss", "1.3")),
        "cut_hevc.mp4": ("hevc_open.mp4", ("-ss", "1.3")),
        "late.mp4": ("closed.mp4", ("-itsoffset", "5")),
        "late.ts": ("closed.mp4", ("-itsoffset", "5")),
        "no_cues.mkv": ("closed.mp4", ()),
    }
    for name, (source, options) in copies.items():
        files[name] = folder / name
        live = ("-live", "1") if name == "no_cues.mkv" else ()
        ffmpeg(*options, "-i", str(files[source]), "-c", "copy", *live, str(files[name]))
    files["turned.mp4"] = folder / "turned.mp4"
    turn = ("-display_rotation", "90", "-i", str(files["closed.mp4"]))
    ffmpeg(*turn, "-c", "copy", str(files["turned.mp4"]))
    files["sizes.mkv"] = folder / "sizes.mkv"
    parts = [folder / "wide.ts", folder / "tall.ts"]
    for part, size in zip(parts, ("96x64", "64x96"), strict=True):
        source = f"testsrc2=size={size}:rate=25:duration=2"
        ffmpeg("-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p", *X264, str(part))
    joined = folder / "parts.txt"
    joined.write_text("".join(f"file '{part}'\n" for part in parts), encoding="utf-8")
    concat = ("-f", "concat", "-safe", "0", "-i", str(joined))
    ffmpeg(*concat, "-c", "copy", str(files["sizes.mkv"]))
    files["negative.mkv"] = folder / "negative.mkv"
    shifted = ("-output_ts_offset", "-2", "-avoid_negative_ts", "disabled")
    ffmpeg("-i", str(files["closed.mp4"]), "-c", "copy", *shifted, str(files["negative.mkv"]))
    files["two.mkv"] = folder / "two.mkv"
    both = ("-i", str(files["closed.mp4"]), "-i", str(files["pyramid.mkv"]))
    ffmpeg(*both, "-map", "0:v", "-map", "1:v", "-c", "copy", str(files["two.mkv"]))
    files["uneven.mp4"] = folder / "uneven.mp4"
    shown = "settb=1/1000,setpts='(N+20*gt(N,30)+7*gt(N,61))*0.04/TB'"
    times = ("-vf", shown, "-fps_mode", "passthrough")
    ffmpeg(*SOURCE, *times, "-pix_fmt", "yuv420p", *X264, str(files["uneven.mp4"]))
    files["damaged.mp4"] = folder / "damaged.mp4"
    content = bytearray(files["closed.mp4"].read_bytes())
    middle = content.index(b"mdat") + len(content) // 2
    content[middle : middle + 8] = bytes(byte ^ 0xFF for byte in content[middle : middle + 8])
    files["damaged.mp4"].write_bytes(content)
    return files
