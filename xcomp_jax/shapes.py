"""Legend of dimensions, used in docstrings and trailing comments all over the package.

B  batch: independent examples
C  clips: groups of consecutive frames that the video encoder sees together
F  frames of a video                 T  frames of one clip
P  patches of a frame                S  tokens of a sequence (text and video together)
V  visual tokens of a sequence       R  rows: text positions whose logits are wanted
N  query heads                       K  key/value heads
H  size of one head                  D  width of the residual stream
L  layers                            M  new tokens written while decoding
"""
