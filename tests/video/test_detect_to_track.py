"""Every part of Detect to Track against plain loops and cases small enough for the
hand."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn

from papernets_lite.backbones import resnet
from papernets_lite.ops.boxes import encode
from papernets_lite.video import detect_to_track


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("reach", "step"), [(2, 1), (4, 2), (1, 1)])
def test_correlation_equals_the_plain_loop(reach: int, step: int) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 3, 6, 8)
    side = 2 * reach // step + 1
    expected = torch.zeros(2, side * side, 6 // step, 8 // step)
    for i, j, k, m in itertools.product(
        range(6 // step), range(8 // step), range(side), range(side)
    ):
        row, column = step * (i + k) - reach, step * (j + m) - reach
        if 0 <= row < 6 and 0 <= column < 8:
            products = first[:, :, step * i, step * j] * second[:, :, row, column]
            expected[:, k * side + m, i, j] = products.sum(1)
    found = detect_to_track.correlation(first, second, reach=reach, step=step)
    torch.testing.assert_close(found, expected)


def test_correlation_peaks_where_the_pattern_went() -> None:
    torch.manual_seed(0)
    first = nn.functional.normalize(torch.randn(1, 16, 9, 9), dim=1)
    second = first.roll((1, -2), (2, 3))  # one down, two to the left
    found = detect_to_track.correlation(first, second, reach=3)[0, :, 4, 4]
    assert divmod(found.argmax().item(), 7) == (3 + 1, 3 - 2)


def test_channels_at_the_papers_scale() -> None:
    maps = [torch.zeros(1, 2, 10, 12), *torch.zeros(2, 1, 2, 5, 6)]
    found = [
        detect_to_track.correlation(x, x, step=s)
        for x, s in zip(maps, detect_to_track.STEPS, strict=True)
    ]
    assert [tuple(x.shape) for x in found] == [
        (1, 81, 5, 6),
        (1, 289, 5, 6),
        (1, 289, 5, 6),
    ]


def test_parameters_at_the_papers_scale() -> None:
    with torch.device("meta"):
        net = detect_to_track.paper()
    assert net.classes.out_channels == 1519
    answer = net.tracks.answer
    assert net.boxes.out_channels == answer.out_channels == 392
    assert answer.in_channels == 392 + 392 + 81 + 289 + 289
    assert parameters(net.last) == 512 * (2048 * 9 + 1)
    assert parameters(net.tracks) == 392 * (1443 + 1)
    assert net.last.dilation == net.last.padding == (6, 6)
    for seen, channels in (("boxes", 784), ("correlations", 659)):
        with torch.device("meta"):
            net = detect_to_track.paper(sees=[seen])
        assert net.tracks.answer.in_channels == channels


def test_a_dilated_stage_keeps_the_size_and_sees_as_far() -> None:
    torch.manual_seed(0)
    plain = resnet.ResNet(blocks=(1, 1), widths=(4, 8)).eval()
    net = resnet.ResNet(blocks=(1, 1), widths=(4, 8)).eval()
    net.load_state_dict(plain.state_dict())
    wide = detect_to_track.dilated(resnet.Stages(net, (1, 1)), by=2).stages[-1]
    x = torch.randn(1, 4, 8, 8)
    coarse, fine = plain.units[1](x), wide(x)
    assert (coarse.shape[-1], fine.shape[-1]) == (4, 8)
    convolutions = [m for m in wide.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.dilation for conv in convolutions] == [(2, 2), (2, 2), (1, 1)]


def test_pairs_are_neighbours_of_one_video() -> None:
    maps = torch.arange(6.0).reshape(6, 1, 1, 1)  # two videos of three frames
    found = detect_to_track.neighbours(maps, 3)
    assert found.flatten(1).tolist() == [[0, 1], [1, 2], [3, 4], [4, 5]]
    net = detect_to_track.TrackMaps(1, reach=2, sees=["correlations"])
    nn.init.zeros_(net.answer.bias)
    nn.init.zeros_(net.answer.weight)
    # conv4's middle: no displacement, and divided by its two channels
    net.answer.weight.data[:, 9 + 12] = 1
    found = net(maps, [maps, torch.cat([maps, maps], 1), maps], 3)
    assert found.flatten().tolist() == [0, 2, 12, 20]


@torch.no_grad()
def test_a_long_video_is_its_pairs() -> None:
    torch.manual_seed(0)
    net = detect_to_track.tiny().eval()
    video = torch.rand(1, 4, 3, 64, 64)
    whole, pair = net(video), net(video[:, 1:3])
    torch.testing.assert_close(whole.tracks[1:2], pair.tracks)
    torch.testing.assert_close(whole.classes[1:3], pair.classes)
    assert whole.tracks.shape == (3, 36, 16, 16)
    assert whole.stride == 4
    seen = net.detect(video, least=0.0, most=5)[0]
    assert [len(one["next"]) for one in seen] == [5, 5, 5, 0]
    one = net.detect(video[:, 1:3], least=0.0, most=5)[0][0]
    torch.testing.assert_close(seen[1]["next"], one["next"])


def test_tracking_targets_by_hand() -> None:
    now = {
        "boxes": torch.tensor([[[0.0, 0, 10, 10], [30, 30, 40, 40], [50, 0, 60, 10]]])
    }
    then = {"boxes": torch.tensor([[[4.0, 0, 14, 10], [30, 30, 50, 50], [0, 0, 0, 0]]])}
    now["valid"] = torch.tensor([[True, True, True]])
    then["valid"] = torch.tensor([[True, True, False]])
    found = [torch.tensor([[1.0, 0, 11, 10], [20, 20, 28, 28], [50, 0, 60, 10]])]
    (regions,), codes = detect_to_track.track_targets(found, now, then)
    # A proposal near the first object, and the two objects that are in both frames; the
    # third has left.
    assert regions.tolist() == [[1, 0, 11, 10], [0, 0, 10, 10], [30, 30, 40, 40]]
    expected = [[0.3, 0, 0, 0], [0.4, 0, 0, 0], [0.5, 0.5, math.log(2), math.log(2)]]
    torch.testing.assert_close(codes, torch.tensor(expected))


def test_follow_inverts_the_targets() -> None:
    torch.manual_seed(0)
    net = detect_to_track.tiny()
    start, end = torch.tensor([[10.0, 10, 30, 26]]), torch.tensor([[14.0, 12, 38, 25]])
    nn.init.zeros_(net.tracks.answer.weight)
    net.tracks.answer.bias.data = encode(end, start)[0].repeat_interleave(9)
    outputs = net(torch.rand(1, 2, 3, 64, 64))
    (found,) = detect_to_track.follow(outputs, [start])
    torch.testing.assert_close(found, end, atol=1e-4, rtol=0)


def truth(count: int = 1) -> dict[str, torch.Tensor]:
    boxes = torch.tensor([[[4.0, 6, 18, 20]], [[7.0, 5, 22, 20]]]).expand(
        count, 2, 1, 4
    )
    return {
        "boxes": boxes,
        "labels": torch.zeros(count, 2, 1, dtype=torch.long),
        "valid": torch.ones(count, 2, 1, dtype=torch.bool),
    }


def test_losses_add_up_and_stay_finite_without_objects() -> None:
    torch.manual_seed(0)
    net, known = detect_to_track.tiny(), truth()
    outputs = net(torch.rand(1, 2, 3, 64, 64))
    parts = detect_to_track.loss(outputs, known, generator=generator(), tracking=0.5)
    rest = sum(
        value.item() for name, value in parts.items() if name not in ("loss", "track")
    )
    assert parts["loss"].item() == pytest.approx(
        rest + 0.5 * parts["track"].item(), rel=1e-5
    )
    assert parts["track"] > 0
    known["valid"] = torch.zeros_like(known["valid"])
    parts = detect_to_track.loss(outputs, known, generator=generator())
    assert all(value.isfinite() for value in parts.values())
    assert parts["track"] == 0


def test_tracking_loss_by_hand() -> None:
    torch.manual_seed(0)
    net = detect_to_track.tiny().eval()
    nn.init.zeros_(net.tracks.answer.weight)
    outputs, known = net(torch.rand(1, 2, 3, 64, 64)), truth()
    # only the object itself is tracked
    outputs = dataclasses.replace(outputs, proposals=[torch.zeros(0, 4)] * 2)
    parts = detect_to_track.loss(outputs, known, generator=generator())
    start, end = known["boxes"][0, :, 0]
    code = encode(end[None], start[None])[0].abs()
    beta = 1 / 9
    expected = torch.where(code < beta, code**2 / 2 / beta, code - beta / 2).sum()
    assert parts["track"].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    "sees", [["boxes"], ["correlations"], ["boxes", "correlations"]]
)
def test_the_second_frame_is_seen_either_way(sees: list[str]) -> None:
    torch.manual_seed(0)
    net = detect_to_track.tiny(sees=sees).eval()
    video = torch.rand(1, 2, 3, 64, 64)
    other = torch.stack([video[0, 0], video[0, 1].flip(-1)])[None]
    assert not torch.allclose(net(video).tracks, net(other).tracks)


def test_refused() -> None:
    with pytest.raises(ValueError, match="expected 'boxes', 'correlations' or both"):
        detect_to_track.tiny(sees=["flow"])
    net = detect_to_track.tiny()
    for shape in ((0, 2, 3, 64, 64), (1, 1, 3, 64, 64)):
        with pytest.raises(
            ValueError, match="expected at least one video of two frames"
        ):
            net(torch.zeros(shape))


def best_by_force(links: list[torch.Tensor]) -> tuple[float, list[tuple[int, int]]]:
    """All paths, of every start and end."""
    sizes = [links[0].shape[0], *(link.shape[1] for link in links)]
    best: tuple[float, list[tuple[int, int]]] = (0.0, [])
    for start in range(len(links)):
        for end in range(start + 1, len(sizes)):
            for boxes in itertools.product(*(range(n) for n in sizes[start : end + 1])):
                total = sum(
                    links[start + k][boxes[k], boxes[k + 1]].item()
                    for k in range(end - start)
                )
                if total > best[0] + 1e-9:
                    best = (total, list(enumerate(boxes, start)))
    return best


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("sizes", [(4, 4, 4, 4), (3, 1, 0, 4), (2, 4, 1, 3)])
def test_viterbi_finds_the_best_of_all_paths(seed: int, sizes: tuple[int, ...]) -> None:
    torch.manual_seed(seed)
    links = [torch.rand(a, b).double() for a, b in itertools.pairwise(sizes)]
    if seed % 3:  # some links are forbidden
        links = [
            link.masked_fill(torch.rand_like(link) < 0.3 * (seed % 3), -math.inf)
            for link in links
        ]
    total, expected = best_by_force(links)
    path = detect_to_track.best_path(links)
    assert path == expected
    assert sum(
        links[t][i, j].item() for (t, i), (_, j) in itertools.pairwise(path)
    ) == pytest.approx(total)


def test_where_all_links_are_allowed_a_path_runs_through_the_whole_video() -> None:
    torch.manual_seed(0)
    links = [torch.rand(3, 3) for _ in range(5)]
    assert [frame for frame, _ in detect_to_track.best_path(links)] == list(range(6))
    assert detect_to_track.best_path([torch.full((2, 2), -math.inf)]) == []


def test_joined_needs_both_ends() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [30, 0, 40, 10]])
    after = boxes + 20  # far: IoU 0 with the boxes themselves
    start, end = boxes[:1] + 1, after[:1] - 1  # IoU 81 / 119
    expected = torch.tensor([[True, False], [False, False]])
    assert torch.equal(detect_to_track.joined(boxes, after, start, end), expected)
    assert not detect_to_track.joined(boxes, after, start, end + 30).any()
    assert not detect_to_track.joined(boxes, after, start + 5, end).any()
    assert detect_to_track.joined(boxes, after[:0], start, end).shape == (2, 0)


def test_rescoring_by_hand() -> None:
    scores = torch.tensor([0.2, 0.9, 0.5])
    # the better two of three
    torch.testing.assert_close(detect_to_track.rescore(scores), scores + 0.7)
    torch.testing.assert_close(
        detect_to_track.rescore(torch.tensor([0.4])), torch.tensor([0.8])
    )


def detections(
    rows: list[list[tuple[float, float, int]]], move: float = 20.0
) -> list[dict[str, torch.Tensor]]:
    """Boxes of ten pixels by (x, score, label); every one's tracklet goes ``move``
    pixels to the right."""
    out = []
    for frame in rows:
        boxes = torch.tensor([[x, 0.0, x + 10, 10] for x, _, _ in frame]).reshape(-1, 4)
        shift = torch.tensor([move, 0.0, move, 0.0])
        one = {
            "boxes": boxes,
            "scores": torch.tensor([s for _, s, _ in frame]),
            "next": boxes + shift,
        }
        out.append(
            one | {"labels": torch.tensor([c for _, _, c in frame], dtype=torch.long)}
        )
    return out


def test_linking_by_hand() -> None:
    found = detections(
        [[(0, 0.9, 1), (50, 0.3, 1)], [(21, 0.2, 1)], [(40, 0.7, 1), (41, 0.6, 2)]]
    )
    linked = detect_to_track.link(found)
    assert linked[0]["tubes"].tolist() == [0, 1]
    assert linked[1]["tubes"].tolist() == [0]
    assert linked[2]["tubes"].tolist() == [0, 2]
    assert linked[1]["scores"].tolist() == pytest.approx([0.2 + 0.8])
    assert linked[0]["scores"].tolist() == pytest.approx([0.9 + 0.8, 0.6])
    # another label links with nothing
    assert linked[2]["scores"].tolist() == pytest.approx([0.7 + 0.8, 1.2])
    assert found[0]["scores"].tolist() == pytest.approx([0.9, 0.3])


def test_without_tracklets_nothing_links_unless_paths_may_jump() -> None:
    found = detections([[(0, 0.9, 0)], [(20, 0.2, 0)]], move=0)
    assert [one["tubes"].item() for one in detect_to_track.link(found)] == [0, 1]
    assert [one["tubes"].item() for one in detect_to_track.link(found, jump=True)] == [
        0,
        0,
    ]


def test_the_nearest_centre_of_a_class_by_hand() -> None:
    found = detections(
        [[(0, 0.9, 1), (30, 0.8, 1), (90, 0.5, 0)], [(5, 0.9, 0), (8, 0.1, 1)], []]
    )
    first, second, last = detect_to_track.nearest(found, reach=16)
    # the first to the nearest of its class; the others stay: too far, another class
    assert first["next"][:, 0].tolist() == [8, 30, 90]
    assert second["next"][:, 0].tolist() == [5, 8]
    assert torch.equal(last["boxes"], found[-1]["boxes"])
    assert found[0]["next"][0, 0] == 20
    (far, _, _) = detect_to_track.nearest(found, reach=30)
    assert far["next"][:, 0].tolist() == [8, 8, 90]
    tubes = [
        one["tubes"].tolist() for one in detect_to_track.link([first, second, last])
    ]
    assert tubes == [[0, 1, 2], [3, 0], []]


def test_the_bonus_outweighs_a_surer_box_elsewhere() -> None:
    rows = [[(0, 0.9, 0)], [(20, 0.2, 0), (60, 0.9, 0)]]
    followed = detect_to_track.link(detections(rows), jump=True)
    assert followed[1]["tubes"].tolist()[0] == followed[0]["tubes"].item()
    blind = detect_to_track.link(detections(rows), jump=True, bonus=0.0)
    assert blind[1]["tubes"].tolist()[1] == blind[0]["tubes"].item()


def test_every_box_lies_in_one_tube_and_frames_may_be_empty() -> None:
    torch.manual_seed(0)
    rows = [
        [(float(x), 0.5, int(x) % 2) for x in 60 * torch.rand(n)]
        for n in (3, 0, 4, 1, 5)
    ]
    for jump in (False, True):
        linked = detect_to_track.link(detections(rows), jump=jump)
        assert [len(one["tubes"]) for one in linked] == [3, 0, 4, 1, 5]
        for tube in torch.cat([one["tubes"] for one in linked]).unique():
            assert tube >= 0
            assert all((one["tubes"] == tube).sum() <= 1 for one in linked)
            labels = torch.cat([one["labels"][one["tubes"] == tube] for one in linked])
            assert len(labels.unique()) == 1


def test_a_video_of_one_frame_links_with_nothing() -> None:
    (linked,) = detect_to_track.link(detections([[(0, 0.9, 1), (50, 0.3, 1)]]))
    assert linked["scores"].tolist() == pytest.approx([1.8, 0.6])
    assert linked["tubes"].tolist() == [0, 1]
    assert detect_to_track.best_path([]) == []


def one_loss(known: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = detect_to_track.tiny()
    outputs = net(torch.rand(1, 2, 3, 64, 64, generator=generator()))
    return detect_to_track.loss(outputs, known, generator=generator())


def test_boxes_and_labels_of_any_number_type_give_the_same_loss() -> None:
    expected = one_loss(truth())
    known = {
        "boxes": truth()["boxes"].long(),
        "labels": truth()["labels"].int(),
        "valid": truth()["valid"].int(),
    }
    assert one_loss(known) == expected


def test_an_object_that_has_left_has_no_box() -> None:
    """Without an area it is refused by name; marked as not there it is not tracked."""
    known = truth()
    known["boxes"] = known["boxes"].clone()
    known["boxes"][0, 1, 0] = torch.tensor([64.0, 4, 64, 20])
    with pytest.raises(ValueError, match=r"true boxes .*got \[64.0, 4.0, 64.0, 20.0\]"):
        one_loss(known)
    known["valid"][0, 1] = False
    assert one_loss(known)["track"] == 0


@pytest.mark.parametrize("corner", [math.nan, math.inf, 1e30])
def test_true_boxes_that_end_a_process_are_refused(corner: float) -> None:
    known = truth()
    known["boxes"] = known["boxes"].clone()
    known["boxes"][0, 1, 0, 2] = corner
    with pytest.raises(ValueError, match="expected finite true boxes"):
        one_loss(known)


def test_labels_and_videos_must_fit() -> None:
    known = truth()
    with pytest.raises(ValueError, match="expected `labels` from 0 to 7, got 8"):
        one_loss(known | {"labels": known["labels"] + 8})
    with pytest.raises(
        ValueError, match=r"expected 1 videos of 2 frames, got \(2, 2\)"
    ):
        one_loss(truth(2))


@torch.no_grad()
def test_anchors_and_maps_keep_their_place_at_odd_sizes() -> None:
    torch.manual_seed(0)
    net = detect_to_track.tiny().eval()
    video = torch.rand(1, 2, 3, 100, 40)
    whole, narrow = net(video), net(video[..., :37])
    assert narrow.stride == whole.stride == 4
    assert torch.equal(narrow.anchors, whole.anchors)
    box = [torch.tensor([[4.0, 76, 20, 96]])] * 2
    found, expected = (out.second(box)[0] for out in (narrow, whole))
    assert (found - expected).norm() < 0.05 * expected.norm()
    assert len(net.detect(video[..., :37])[0]) == 2


@torch.no_grad()
def test_half_precision_and_autocast_detect() -> None:
    torch.manual_seed(0)
    net, video = detect_to_track.tiny().eval(), torch.rand(1, 2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert len(net.detect(video, least=0.0, most=4)[0][1]["boxes"]) == 4
    for dtype in (torch.float16, torch.bfloat16):
        net, video = net.to(dtype), video.to(dtype)
        found = net.detect(video, least=0.0, most=4)[0]
        assert [len(one["boxes"]) for one in found] == [4, 4]
        assert found[0]["boxes"].dtype == torch.float32


def test_maps_that_do_not_fit_are_refused() -> None:
    maps = torch.rand(2, 3, 6, 6)
    with pytest.raises(ValueError, match="expected equal maps"):
        detect_to_track.correlation(maps, maps[:1], reach=1)
    for reach, step in ((3, 2), (-1, 1), (2, 0)):
        with pytest.raises(ValueError, match="expected a reach that is a multiple"):
            detect_to_track.correlation(maps, maps, reach=reach, step=step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reach": 3}, "a reach that is a multiple of 2"),
        ({"num_classes": 0}, "num_classes >= 1"),
        ({"bins": 0}, "bins >= 1"),
        ({"sees": ()}, "'boxes', 'correlations' or both"),
    ],
)
def test_nets_that_cannot_be_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"expected {message}"):
        detect_to_track.tiny(**settings)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scores": torch.tensor([math.nan])}, "expected finite scores"),
        ({"scores": torch.tensor([0.5, 0.5])}, "a score and a label for every box"),
        ({"next": torch.zeros(0, 4)}, "expected 1 in `next`, got 0"),
        ({"boxes": torch.full((1, 4), math.nan)}, "expected finite boxes"),
    ],
)
def test_detections_that_cannot_be_linked_are_refused(
    wrong: dict, message: str
) -> None:
    found = detections([[(0, 0.9, 0)], [(20, 0.2, 0)]])
    with pytest.raises(ValueError, match=message):
        detect_to_track.link([found[0] | wrong, found[1]])
    with pytest.raises(ValueError, match="expected at least one frame"):
        detect_to_track.link([])
