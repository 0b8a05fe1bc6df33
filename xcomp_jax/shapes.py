"""Legend of array dimensions, with one meaning for each letter in the whole package.

B  batch: independent examples
C  clips: groups of consecutive frames that the video encoder processes together
F  frames of a video                 T  frames of one clip
X  pixels along one side of a frame  P  patches of a frame
S  slots of a sequence: real tokens and padding
V  visual slots of a sequence        Q  rows whose queries attend to other keys than their own S
R  text rows whose logits are used   M  slots of the text that follows a KV cache
N  query heads                       K  key/value heads
H  size of one head                  D  width of the residual stream
L  layers of one layer group, stacked

Words stand for themselves: `prefix` and `suffix` (text slots before and after the video), `vocab`,
`segments`, `D_vision` (width of the video encoder where D is that of the language model). A number
in a signature is that number. Signatures write `Float[Array, "B S D"]`, docstrings and trailing
comments [B, S, D]; the tests check the signatures of public functions while they run.
"""
