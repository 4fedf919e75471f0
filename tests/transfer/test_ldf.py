"""LDF: counts at the paper's scale, cases by hand, zooming is cropping, bad input."""

from functools import partial

import pytest
import torch
from torch.nn import functional

from papernets_lite.transfer import ldf
from tests.unchecked import unchecked

K = 15


def some(count: int = 4, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator)


def test_parameters_equal_the_papers() -> None:
    with torch.device("meta"):
        net = ldf.paper()
    counts = [
        sum(p.numel() for p in part.parameters())
        for part in (net.scales, net.embed, net.zoom_net)
    ]
    vgg = 143_667_240 - 4096 * 1000 - 1000  # VGG-19 without its last layer
    zoom_net = 14 * 14 * 512 * 1024 + 1024 + 1024 * 3 + 3
    assert counts == [2 * vgg, 2 * 4096 * 624, zoom_net]


def test_a_zoom_of_equal_size_is_a_crop() -> None:
    boxes = torch.tensor([[24 / 64, 40 / 64, 16 / 64]] * 4)
    found = ldf.zoom(some(), boxes, 32, steepness=None)
    assert torch.allclose(found, some()[:, :, 24:56, 8:40], atol=1e-5)
    masked = ldf.zoom(some(), boxes, 32, steepness=1000.0)
    assert torch.allclose(masked, found, atol=1e-5)


def test_a_zoom_is_a_crop_enlarged() -> None:
    boxes = torch.tensor([[24 / 64, 40 / 64, 8 / 64]] * 4)
    found = ldf.zoom(some(), boxes, 32, steepness=None)
    crop = some()[:, :, 32:48, 16:32]
    wanted = functional.interpolate(crop, (32, 32), mode="bilinear")
    inner = slice(1, -1)  # at the border a crop knows no neighbours
    assert torch.allclose(
        found[..., inner, inner], wanted[..., inner, inner], atol=1e-5
    )


def test_a_zoom_is_an_affine_grid() -> None:
    boxes = torch.tensor([[0.3, 0.55, 0.21]] * 4)
    x, y, half = boxes[0].tolist()
    matrix = torch.tensor([[2 * half, 0, 2 * x - 1], [0, 2 * half, 2 * y - 1]]).expand(
        4, 2, 3
    )
    grid = functional.affine_grid(matrix, [4, 3, 32, 32], align_corners=False)
    masked = some() * ldf.soft_box(boxes, 64)
    wanted = functional.grid_sample(masked, grid, align_corners=False)
    assert torch.allclose(ldf.zoom(some(), boxes, 32), wanted, atol=1e-5)


def test_the_soft_box_by_hand() -> None:
    mask = ldf.soft_box(torch.tensor([[0.5, 0.5, 0.25]]), 8, steepness=2.0)[0, 0]

    def edge(t: float) -> float:
        return 1 / (1 + 2.718281828 ** (-2 * t))

    along = [edge(i + 0.5 - 2) - edge(i + 0.5 - 6) for i in range(8)]
    wanted = torch.outer(torch.tensor(along), torch.tensor(along))
    assert torch.allclose(mask, wanted, atol=1e-6)
    hard = ldf.soft_box(torch.tensor([[0.5, 0.25, 0.25]]), 8, steepness=1000.0)[0, 0]
    assert hard.sum() == 16
    assert hard[:4, 2:6].eq(1).all()


@pytest.mark.parametrize(("place", "sign"), [(0.72, -1), (0.28, 1)])
@pytest.mark.parametrize("steepness", [0.5, None])
def test_the_box_is_drawn_to_what_lies_partly_outside(
    place: float, sign: int, steepness: float | None
) -> None:
    across = (torch.arange(64) + 0.5) / 64
    spot = (-((across - place) ** 2) / 0.005).exp()
    pictures = (spot[None, :] * spot.new_ones(64, 1)).expand(1, 3, 64, 64)
    boxes = torch.tensor([[0.5, 0.5, 0.2]], requires_grad=True)
    lost = -ldf.zoom(pictures, boxes, 32, steepness=steepness).mean()
    lost.backward()
    assert boxes.grad is not None
    assert boxes.grad[0, 0] * sign > 0
    assert boxes.grad[0, 0].abs() > 1e-3


def test_boxes_stay_in_the_picture() -> None:
    net = ldf.ZoomNet(channels=4, cells=8, hidden=8)
    torch.nn.init.normal_(net.last.weight, std=50)
    corners = ldf.spread(net(torch.randn(200, 4, 8, 8)), 64)
    assert corners.min() >= -1e-4
    assert corners.max() <= 64 + 1e-4
    assert (corners[:, 2] - corners[:, 0]).min() >= 2 * ldf.LEAST * 64 - 1e-3


def test_boxes_around_things() -> None:
    corners = torch.tensor([[10.0, 20.0, 26.0, 28.0], [0.0, 0.0, 2.0, 2.0]])
    found = ldf.around(corners, 64, slack=1.5)
    assert torch.allclose(found[0], torch.tensor([18, 24, 12]) / 64)
    assert found[1, 2] == torch.tensor(ldf.LEAST)


def test_the_strongest_response_by_hand() -> None:
    maps = torch.zeros(3, 2, 8, 8)
    maps[0, 1, 2, 5] = 3.0
    maps[1, :, 5, 3:5] = -2.0
    centres = ldf.strongest(maps)
    assert torch.allclose(centres[0], torch.tensor([5.5, 2.5]) / 8, atol=1e-5)
    assert torch.allclose(centres[1], torch.tensor([4.0, 5.5]) / 8, atol=1e-5)
    assert torch.allclose(centres[2], torch.tensor([0.5, 0.5]), atol=1e-5)


def test_the_first_looks_map_is_where_the_pixels_are() -> None:
    """A dot's response lies over the dot, also in the mirror."""
    torch.manual_seed(0)
    net = ldf.tiny(looks=1).eval()
    for at in (6, 13, 24):
        dot = torch.zeros(1, 3, 32, 32)
        dot[..., 14:18, at - 2 : at + 2] = 1.0
        centre = ldf.strongest(net(dot).maps)[0] * 32
        assert (centre - torch.tensor([at, 16.0])).abs().max() < 3


def test_the_triplet_by_hand_and_against_torchs() -> None:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 2.0]])
    labels = torch.tensor([0, 0, 1, 1])
    far, near = ldf.hardest(points, labels)
    assert far.tolist() == [1.0, 1.0, 9.0, 9.0]
    assert near.tolist() == [4.0, 5.0, 4.0, 8.0]
    # 0, 0, 9 + 1 - 4 and 9 + 1 - 8
    assert ldf.triplet(points, labels) == (6 + 2) / 4
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(12, 5, generator=generator)
    groups = torch.arange(12) % 4
    apart = torch.cdist(p, p)
    same = groups[:, None] == groups
    eye = torch.eye(12, dtype=torch.bool)
    far_ones = p[apart.masked_fill(~same | eye, -1).argmax(1)]
    near_ones = p[apart.masked_fill(same, 99).argmin(1)]

    def squared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).square().sum(1)

    theirs = functional.triplet_margin_with_distance_loss(
        p, far_ones, near_ones, distance_function=squared, margin=1.0
    )
    assert torch.allclose(ldf.triplet(p, groups), theirs, atol=1e-5)


def test_a_batch_without_pairs_has_no_triplets() -> None:
    points = torch.randn(3, 4, requires_grad=True)
    for labels in ([0, 1, 2], [0, 0, 0]):
        lost = ldf.triplet(points, torch.tensor(labels))
        lost.backward()
        assert lost == 0
    assert points.grad is not None
    assert points.grad.abs().max() == 0


def test_prototypes_come_from_the_latent_half() -> None:
    """An indexing slip that is easily made: the first half is the user attributes."""
    embeddings = torch.zeros(4, 2, 6)
    embeddings[..., :3] = torch.randn(4, 2, 3)
    embeddings[:2, :, 3] = 5.0
    embeddings[2:, :, 4] = 5.0
    means = ldf.class_means(ldf.split(embeddings)[1], torch.tensor([0, 0, 1, 1]), 2)
    assert means.tolist() == [[[1.0, 0, 0], [0, 1.0, 0]]] * 2
    zero = torch.cat([torch.zeros(4, 2, 3), embeddings[..., 3:]], 2)
    table, prototypes = torch.eye(3)[:2], means
    for one in (embeddings, zero):
        _, latent = ldf.decode(one, attributes=table, prototypes=prototypes)
        assert latent.argmax(1).tolist() == [0, 0, 1, 1]


def test_class_vectors_have_length_one() -> None:
    """Else a class with many attributes would win."""
    user = torch.tensor([[[1.0, 0.2, 0.2]]])
    table = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    plain = user[0] @ table.T
    assert plain.argmax() == 1
    assert ldf.user_scores(user, table)[0].argmax() == 0
    assert torch.allclose(
        ldf.user_scores(user, table)[0, 0], torch.tensor([1.0, 1.4 / 3**0.5])
    )


def test_the_loss_sums_the_looks() -> None:
    torch.manual_seed(0)
    table = torch.eye(K)[:3]
    batch = {"labels": torch.tensor([0, 0, 1, 2]), "attributes": table}
    outputs = ldf.tiny()(some())
    terms = ldf.loss(outputs, batch, latent=0.5)
    first, second = (
        ldf.loss(ldf.Outputs(one[:, None], outputs.maps, outputs.boxes), batch)
        for one in outputs.embeddings.unbind(1)
    )
    assert torch.allclose(terms["user"], first["user"] + second["user"])
    assert torch.allclose(terms["latent"], first["latent"] + second["latent"])
    assert torch.allclose(terms["loss"], terms["user"] + 0.5 * terms["latent"])


def test_the_second_looks_loss_moves_the_box() -> None:
    torch.manual_seed(0)
    net = ldf.tiny()
    batch = {"labels": torch.tensor([0, 0, 1, 2]), "attributes": torch.eye(K)[:3]}
    ldf.loss(net(some()), batch)["loss"].backward()
    assert net.zoom_net is not None
    assert net.zoom_net.last.bias.grad is not None
    assert net.zoom_net.last.bias.grad.abs().min() > 0


def test_arms_begin_with_the_same_weights() -> None:
    nets = []
    for look in ("learnt", "response", "whole"):
        torch.manual_seed(0)
        nets.append(ldf.tiny(look=look))
    for other in nets[1:]:
        weights = other.state_dict()
        for name, values in nets[0].state_dict().items():
            assert name.startswith("zoom_net") or torch.equal(values, weights[name])


def test_the_second_look_goes_where_it_is_told() -> None:
    torch.manual_seed(0)
    pictures = some(2)
    whole = ldf.tiny(look="whole").eval()
    assert whole(pictures).boxes.tolist() == [[0.5, 0.5, 0.5]] * 2
    learnt = ldf.tiny().eval()
    boxes = torch.tensor([[0.4, 0.6, 0.25]] * 2)
    crop = ldf.zoom(pictures, boxes, 32)
    wanted = learnt.embed[1](learnt.scales[1](crop)[1])
    outputs = learnt(pictures, boxes)
    assert torch.equal(outputs.embeddings[:, 1], wanted)
    assert torch.equal(outputs.boxes, boxes)
    peaks = ldf.tiny(look="response", half=0.2).eval()(pictures).boxes
    assert (peaks[:, 2] == 0.2).all()
    assert peaks[:, :2].min() >= 0.2


def test_torchs_own_methods_are_left_alone() -> None:
    assert next(ldf.tiny().half().parameters()).dtype == torch.float16


def test_a_grown_net_begins_as_its_first() -> None:
    torch.manual_seed(0)
    first, zoom_net = ldf.tiny(looks=1), ldf.tiny().zoom_net
    net = ldf.grown(ldf.tiny, first, zoom_net).eval()
    pictures = some(2)
    alone = first.eval()(pictures).embeddings[:, 0]
    assert torch.equal(net(pictures).embeddings[:, 0], alone)
    with pytest.raises(ValueError, match="a net with a zoom net"):
        ldf.grown(partial(ldf.tiny, look="whole"), first, zoom_net)


def test_batches_hold_several_of_each_class() -> None:
    pictures = torch.arange(5.0)[:, None, None, None, None].expand(5, 6, 3, 8, 8)
    generator = torch.Generator().manual_seed(0)
    table = torch.eye(5)
    batches = ldf.Balanced(pictures, table, classes=3, shots=4, generator=generator)
    batch = next(batches)
    assert batch["images"].shape == (12, 3, 8, 8)
    assert torch.equal(batch["images"][:, 0, 0, 0], batch["labels"].float())
    assert batch["labels"].bincount().unique().tolist() in ([0, 4], [4])
    with pytest.raises(ValueError, match="6 classes of 4 pictures"):
        ldf.Balanced(pictures, table, classes=6, generator=generator)


def test_a_distance_ratio_by_hand() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -1.0]])
    labels = torch.tensor([0, 0, 1, 1])
    # within sqrt(2); between 2, sqrt(2), sqrt(2), 2
    ratio = (2 + 2**0.5) / 2 / 2**0.5
    assert ldf.distance_ratio(points, labels) == pytest.approx(ratio)
    with pytest.raises(ValueError, match="several classes"):
        ldf.distance_ratio(points, torch.zeros(4, dtype=torch.long))


def test_the_stored_net_names_what_it_never_saw() -> None:
    net = ldf.trained()
    assert not net.training
    boxes = net(some(2)).boxes
    assert ((boxes > 0) & (boxes < 1)).all()


def test_bad_input() -> None:
    net = ldf.tiny()
    with (
        unchecked(),
        pytest.raises(ValueError, match=r"images \(b, 3, n, n\), n >= 32"),
    ):
        net(torch.rand(1, 3, 16, 16))
    with unchecked(), pytest.raises(ValueError, match="n >= 32"):
        net(torch.rand(1, 3, 64, 48))
    with unchecked(), pytest.raises(ValueError, match="at least one image"):
        net(torch.rand(0, 3, 64, 64))
    with unchecked(), pytest.raises(ValueError, match="finite boxes"):
        ldf.zoom(some(1), torch.full((1, 3), float("nan")), 32)
    with unchecked(), pytest.raises(ValueError, match="a box for each image"):
        ldf.zoom(some(2), torch.rand(1, 3), 32)
    outputs = net(some(2))
    batch = {"labels": torch.tensor([0, 5]), "attributes": torch.eye(K)[:3]}
    with unchecked(), pytest.raises(ValueError, match="labels from 0 to 2"):
        ldf.loss(outputs, batch)
    with unchecked(), pytest.raises(ValueError, match="classes with 15 attributes"):
        ldf.decode(outputs, attributes=torch.ones(3, 7))
    with unchecked(), pytest.raises(ValueError, match="an attribute in every class"):
        ldf.decode(outputs, attributes=torch.zeros(3, K))
    with unchecked(), pytest.raises(ValueError, match="prototypes"):
        ldf.decode(outputs, attributes=torch.eye(K), prototypes=torch.rand(3, K, K))
    with unchecked(), pytest.raises(ValueError, match="a picture of every class"):
        ldf.class_means(outputs.embeddings, torch.tensor([0, 2]), 3)
    with unchecked(), pytest.raises(ValueError, match="alpha > 0"):
        ldf.ridge(torch.eye(3), torch.eye(3), alpha=0.0)
    with unchecked(), pytest.raises(ValueError, match="a zoom net for a learnt look"):
        ldf.LDF(list(ldf.tiny().scales), num_attributes=K, size=32)
