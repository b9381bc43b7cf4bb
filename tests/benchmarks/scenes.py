"""How many scenes of 128x256 one core draws in a second: `OMP_NUM_THREADS=1 python tests/benchmarks/scenes.py [repeats]`.

Processor time, so that other programs on the machine disturb little; animals are square, 128x128. Run by hand: no test depends on speed.
"""
import sys
import time

from semst.synthetic.scenes import FAMILY, STREETS, scene

repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 50
for look, family in FAMILY.items():
    for layout in ("horse", "zebra") if family == "animal" else tuple(STREETS):
        size = 128 if family == "animal" else (128, 256)
        scene(look, 0, size, layout)
        start = time.process_time()
        for seed in range(repeats): scene(look, seed, size, layout)
        print(f"{look:8} {layout:7} {repeats / (time.process_time() - start):6.0f} scenes a second")
