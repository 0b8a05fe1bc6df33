"""Protocols of published evaluations, one file per benchmark.

Every file defines `get_config(system)`. `published` is the row of XComp's paper, or that of
VideoChat-Flash where XComp reports none; `vcf` is VideoChat-Flash-2B (arXiv 2501.00574). Copy a
file to define another protocol; it is then called without an argument.

Sources are files of two public repositories:

    XComp               github.com/ZheyuAqaZhang/XComp, lmms-eval_videochat/
    VideoChat-Flash     github.com/OpenGVLab/VideoChat-Flash, lmms-eval_videochat/

All runs are greedy, in float16, with the repetition penalty of `generation_config.json` (1.1),
which the harness (`lmms_eval/models/videochat_flash.py`) does not override. The released inference
package encodes clips of 4 frames (`mm_local_num_frames` in its `config.json`), while training used
8.
"""
