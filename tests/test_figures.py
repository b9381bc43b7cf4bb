"Boxes where meaning broke: found by a rule, not by hand. And the panels of leads."
import math

import pytest
import torch

from semst.bench.comparison import Interval
from semst.bench.figures import broken_boxes, draw_leads
from semst.eval.metrics import VOID


def test_worst_window_first_and_no_overlap():
    truth = torch.zeros(64, 64, dtype=torch.uint8)
    read = truth.clone()
    read[0:16, 0:16] = 1                                      # all wrong
    read[40:56, 40:52] = 1                                    # three quarters of a window
    boxes = broken_boxes(truth, read)
    assert (boxes[0].top, boxes[0].left, boxes[0].side, boxes[0].share) == (0, 0, 16, 1.0)
    assert boxes[1].share == 0.75 and abs(boxes[1].top - boxes[0].top) >= 16
    assert len(broken_boxes(truth, torch.ones_like(truth), most=3)) == 3


def test_what_does_not_count():
    truth = torch.zeros(64, 64, dtype=torch.uint8)
    read = truth.clone()
    read[:8] = 1                                              # half of a window at most
    assert broken_boxes(truth, read) == [] and broken_boxes(truth, read, share=0.4)
    truth[:] = VOID
    assert broken_boxes(truth, torch.ones_like(truth)) == []


@pytest.mark.parametrize("interval, edge", [(Interval(0.1, -0.05, 0.25, 4, 5), 0.2625), (Interval(0.1, math.nan, math.nan, 1, 1), 0.105), (Interval(0.1, -5, 5.2, 2, 3), 0.4), (Interval(0, 0, 0, 0, 3), 1)])
def test_a_panel_of_leads_holds_whole_intervals_unless_they_are_wild(interval, edge):
    fig = draw_leads({"cut": {"mIoU": interval}}, "title")
    assert fig.axes[0].get_xlim() == pytest.approx((-edge, edge))
    assert fig.axes[0].texts[0].get_text() == f"{interval.positive}/{interval.seeds}"
