"""How many scenes of 128x256 one core draws in a second.

    OMP_NUM_THREADS=1 python tests/benchmarks/scenes.py [repeats]

Processor time, so that other programs disturb little; animals are square, 128x128."""
import sys
import time

from semst.synthetic.animals import AnimalClass
from semst.synthetic.scenes import FAMILIES, layouts_of, scene

repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 50
for look, family in FAMILIES.items():
    size = 128 if family is AnimalClass else (128, 256)
    for layout in layouts_of(look):
        scene(look, 0, size, layout)
        start = time.process_time()
        for seed in range(repeats):
            scene(look, seed, size, layout)
        rate = repeats / (time.process_time() - start)
        print(f"{look:8} {layout:7} {rate:6.0f} scenes a second")
