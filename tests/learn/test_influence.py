"""Speaking rewards and the listening loss by hand."""

from __future__ import annotations

import pytest
import torch

from common.learn.influence import listening_weights, speaking_rewards
from common.learn.policy_gradient import policy_gradient_loss

BELIEFS = torch.tensor([[0.2, 0.3, 0.6], [0.4, 0.1, 0.5], [0.1, 0.7, 0.7]], dtype=torch.float64)


def test_a_message_earns_the_mean_change_of_the_others():
    # message 1 by listener 0: listeners 1 and 2 change by −0.3 and +0.6; message 2 by nobody of them: +0.3, +0.4, 0
    assert speaking_rewards(BELIEFS, [0, None]).tolist() == pytest.approx([0.15, 0.7 / 3])
    assert speaking_rewards(BELIEFS, [2, 1]).tolist() == pytest.approx([-0.1, 0.15])


def test_the_speaker_s_own_belief_does_not_count():
    changed = BELIEFS.clone()
    changed[0, 1:] = 0.9
    assert speaking_rewards(changed, [0, 0]).tolist() == speaking_rewards(BELIEFS, [0, 0]).tolist()


def test_with_the_same_listeners_rewards_of_all_messages_add_up_to_what_was_learned():
    total = speaking_rewards(BELIEFS, [None, None]).sum()
    assert float(total) == pytest.approx(float((BELIEFS[:, -1] - BELIEFS[:, 0]).mean()))
    assert speaking_rewards(BELIEFS[:, :1], []).tolist() == []


def test_wrong_shapes_and_lonely_speakers_are_refused():
    with pytest.raises(ValueError, match="beliefs at 3 moments of 1 messages"):
        speaking_rewards(BELIEFS, [0])
    with pytest.raises(ValueError, match="message 0 has no listener"):
        speaking_rewards(BELIEFS[:1, :2], [0])


def test_the_listening_loss_is_the_mean_cross_entropy_times_its_weight():
    """Two questions answered rightly with probabilities 1/2 and 1/8 in one game: 3 · (log 2 + log 8) / 2."""
    logps = torch.tensor([0.5, 0.125]).log()
    weights = torch.tensor(listening_weights(3.0, 2))
    zero = torch.zeros(2)
    assert float(policy_gradient_loss(logps, weights, zero, zero, 1)) == pytest.approx(6 * 0.6931471805599453)
