"Trainings that go wrong while every loss is finite, and the alarms that stop them."

from pathlib import Path

from campaigns.common import TINY, Campaign, two_folders

from semst.checkpoint import last_checkpoint
from semst.hooks import Alarms, Checkpoints, Hook
from semst.training import Alarmed, train

WITHIN = 25  # steps: `diverged` rings at a learning rate of 10 or more


class Flat(Hook):
    "From a step on the translator's last layer is zero: all translations are one colour."

    def __init__(self, first: int):
        self.first = first

    def step(self, training, record):
        if training.state.step >= self.first:
            training.state.translator.global_branch.generator.model[-2].weight.data.zero_()


def rung(campaign: Campaign, what: str, data, run: Path, config, name: str, within: int, *hooks):
    "One training that an alarm must end within so many steps, with a checkpoint."
    alarms = Alarms(stop=tuple(name.split()))
    try:
        train(data, run, config, hooks=[*hooks, alarms, Checkpoints()])
    except Alarmed as why:
        step = int(last_checkpoint(run).name.removeprefix("step_"))
        if step <= within and f"by the alarm {name}" in str(why):
            campaign.counts[f"`{name}` rang within {within} steps, and the run ended there"] += 1
        else:
            campaign.fail(f"{what}: at step {step}, {why}")
    else:
        campaign.fail(f"{what}: no alarm in {config.optimizer.steps} steps")


def alarm_campaign(root: Path, seeds: int) -> Campaign:
    "Learning rates of 10 and 100 with each form of the GAN loss, and a generator that collapses."
    campaign, data = Campaign("alarms that end a training"), two_folders(root)
    config = TINY.replace(steps=100, checkpoint_every=1000)
    for seed in range(seeds):
        for gan in ("bce", "lsgan", "hinge"):
            for lr in (10.0, 100.0):
                what, run = f"{gan}, lr {lr:g}, seed {seed}", root / f"{gan}{lr:g}{seed}"
                one = config.replace(gan=gan, lr=lr, seed=seed)
                rung(campaign, what, data, run, one, "diverged", WITHIN)
    rung(campaign, "collapse after step 50", data, root / "flat",
         config.replace(steps=600), "collapsed", 50 + 300, Flat(51))
    return campaign
