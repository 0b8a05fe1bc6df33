"""Generated videos with known answers: specification, rendering, mp4 files, question manifests."""
