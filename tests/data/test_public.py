"""Each public dataset, read from a tiny copy in its own on-disk format."""

import json
import pickle
import struct
from functools import partial
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from papernets_lite import data
from papernets_lite.data import public
from papernets_lite.metrics.keypoints import oks_ap
from papernets_lite.ops.skeletons import COCO, from_coco
from papernets_lite.pose import openpose

rng = np.random.default_rng(0)


def write_idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")],
)
def test_idx_files(tmp_path, name, folder):
    pixels = rng.integers(0, 256, (2, 5, 28, 28), dtype=np.uint8)
    for part, prefix in enumerate(("t10k", "train")):
        write_idx(
            tmp_path / folder / "raw" / f"{prefix}-images-idx3-ubyte", pixels[part]
        )
        write_idx(
            tmp_path / folder / "raw" / f"{prefix}-labels-idx1-ubyte",
            np.arange(5, dtype=np.uint8) + 5 * part,
        )
    for part in (0, 1):
        got = data.load(name, root=tmp_path, train=bool(part))
        assert torch.equal(got["images"], torch.from_numpy(pixels[part])[:, None] / 255)
        assert got["labels"].tolist() == [5 * part + k for k in range(5)]
    assert len(data.load(name, root=tmp_path, limit=2)["labels"]) == 2


@pytest.fixture
def trusting(monkeypatch):
    """Checksums are those of the real files: do without."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda _: True)
    monkeypatch.setattr(datasets.CelebA, "_check_integrity", lambda _: True)


def test_cifar(tmp_path, trusting):
    red = np.zeros((4, 3, 32, 32), np.uint8)
    red[:, 0] = 255
    for name, folder, files, meta, key in (
        (
            "cifar10",
            "cifar-10-batches-py",
            [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"],
            "batches.meta",
            "",
        ),
        ("cifar100", "cifar-100-python", ["train", "test"], "meta", "fine_"),
    ):
        home = tmp_path / folder
        home.mkdir()
        for file in files:
            (home / file).write_bytes(
                pickle.dumps({"data": red.reshape(4, -1), f"{key}labels": [3, 1, 4, 1]})
            )
        (home / meta).write_bytes(
            pickle.dumps({f"{key}label_names": ["a"] * 10, "label_names": ["a"] * 10})
        )
        train, test = (
            data.load(name, root=tmp_path, train=part) for part in (True, False)
        )
        assert len(train["labels"]) == 4 * (len(files) - 1)
        assert test["labels"].tolist() == [3, 1, 4, 1]
        assert test["images"].mean((0, 2, 3)).tolist() == [1, 0, 0]


def test_svhn(tmp_path, trusting):
    savemat(
        tmp_path / "train_32x32.mat",
        {"X": np.full((32, 32, 3, 2), 51, np.uint8), "y": np.array([[10], [7]])},
    )
    got = data.load("svhn", root=tmp_path)
    assert got["images"].shape == (2, 3, 32, 32)
    torch.testing.assert_close(got["images"], torch.full((2, 3, 32, 32), 0.2))
    assert got["labels"].tolist() == [0, 7], "the class called 10 is the digit 0"


def test_voc(tmp_path):
    home = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (home / folder).mkdir(parents=True)
    (home / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    for name in "ab":
        Image.new("RGB", (80, 40), (255, 255, 255)).save(
            home / f"JPEGImages/{name}.jpg"
        )
        label = np.zeros((40, 80), np.uint8)
        label[:, 40:] = 15
        Image.fromarray(label, "L").convert("P").save(
            home / f"SegmentationClass/{name}.png"
        )
    got = data.load("voc_segmentation", root=tmp_path, size=32)
    assert got["images"].shape == (2, 3, 32, 32)
    labels = got["labels"][0]
    assert (labels[:16, :16] == 0).all()
    assert (labels[:16, 16:] == 15).all()
    assert (labels[16:] == 255).all(), "what was filled up is no class"
    assert got["images"][0, :, :16].min() > 0.99
    assert got["images"][0, :, 16:].max() == 0


def test_celeba(tmp_path, trusting):
    home = tmp_path / "celeba"
    (home / "img_align_celeba").mkdir(parents=True)
    names = [f"{k:06}.jpg" for k in range(1, 5)]
    for name in names:
        Image.new("RGB", (178, 218), (0, 255, 0)).save(home / "img_align_celeba" / name)

    def table(file, rows, header=""):
        text = "".join(
            f"{name} {' '.join(map(str, row))}\n"
            for name, row in zip(names, rows, strict=True)
        )
        (home / file).write_text(header + text)

    table("list_eval_partition.txt", [[0], [0], [2], [2]])
    table("identity_CelebA.txt", [[11], [12], [13], [14]])
    table("list_bbox_celeba.txt", [[0, 0, 1, 1]] * 4, "4\nx_1 y_1 width height\n")
    table(
        "list_landmarks_align_celeba.txt",
        [[109] * 10] * 4,
        "4\n" + " ".join("abcdefghij") + "\n",
    )
    table(
        "list_attr_celeba.txt",
        [[1] + [-1] * 39] * 4,
        "4\n" + " ".join(f"a{k}" for k in range(40)) + "\n",
    )
    train, test = (
        data.load("celeba", root=tmp_path, size=109, train=part)
        for part in (True, False)
    )
    assert train["images"].shape == (2, 3, 109, 109)
    assert train["attributes"].sum(1).tolist() == [1, 1]
    assert train["identity"].tolist() == [11, 12]
    assert (test["landmarks"] == 54.5).all(), "in pixels of the scaled picture"
    assert len(data.load("celeba", root=tmp_path, limit=1)["identity"]) == 1


def write_coco(home, images, annotations, categories=None, kind="instances"):
    """Annotations of the training part; what each picture shows is up to the caller."""
    for folder in ("annotations", "train2017"):
        (home / folder).mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations}
    if categories:
        content["categories"] = categories
    path = home / "annotations" / f"{kind}_train2017.json"
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def test_coco(tmp_path):
    images = [{"id": 7, "file_name": "1.jpg"}, {"id": 9, "file_name": "2.jpg"}]
    person = {"image_id": 9, "bbox": [10, 20, 30, 20], "category_id": 1, "iscrowd": 0}
    # the nose is seen, the left eye labelled but hidden
    nose = {"keypoints": [40, 10, 2, 44, 8, 1, *[0] * 45], "area": 400}
    write_coco(tmp_path, images, [person])
    write_coco(tmp_path, images, [{**person, **nose}], kind="person_keypoints")
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (100, 50)).save(tmp_path / "train2017" / name)
    got = data.load("coco", root=tmp_path, size=50)
    assert got["images"].shape == (2, 3, 50, 50)
    assert got["boxes"].tolist() == [[[0, 0, 0, 0]], [[5, 10, 20, 20]]]
    assert got["valid"].tolist() == [[False], [True]]
    assert got["labels"].tolist() == [[0], [0]]
    assert "keypoints" not in got
    people = data.load("coco_keypoints", root=tmp_path, size=50)
    assert people["keypoints"].shape == (2, 1, 17, 2)
    assert people["keypoints"][1, 0, 0].tolist() == [20, 5]
    assert people["labelled"][1, 0, :3].tolist() == [True, True, False]
    assert people["visible"][1, 0, :3].tolist() == [True, False, False]
    assert people["areas"].tolist() == [[0], [100]]


def test_cocos_people_fit_openpose_and_the_metric(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "train2017" / "1.jpg")
    generator = torch.Generator().manual_seed(0)
    places = (64 * torch.rand(17, 2, generator=generator)).tolist()
    # nine joints are occluded, but labelled
    triples = [(x, y, 2 if k < 8 else 1) for k, (x, y) in enumerate(places)]
    person = {
        "image_id": 7,
        "bbox": [0, 0, 64, 64],
        "area": 900.0,
        "category_id": 1,
        "iscrowd": 0,
        "keypoints": [value for triple in triples for value in triple],
    }
    content = {
        "images": [{"id": 7, "file_name": "1.jpg"}],
        "annotations": [person],
    }
    (tmp_path / "annotations" / "person_keypoints_train2017.json").write_text(
        json.dumps(content)
    )
    truth = data.load("coco_keypoints", root=tmp_path, size=64)

    found = SimpleNamespace(
        keypoints=truth["keypoints"][0].clone(), scores=torch.ones(1)
    )
    score = partial(oks_ap, truth=truth, sigmas=COCO.tolerances)
    assert score([found])["AP"] == pytest.approx(1)
    found.keypoints[:, 8:] += 100
    assert score([found])["AP"] == 0, "hidden joints count where they are labelled"

    keypoints, known = from_coco(truth["keypoints"], truth["labelled"])
    assert known.all()
    heats, _ = openpose.targets(
        keypoints, known, size=(16, 16), stride=4.0, sigma=4.0, width=4.0
    )
    assert (heats[0, :18].amax((1, 2)) > 0.5).all()


@pytest.fixture
def coco(tmp_path):
    """One picture of 100 x 50 pixels; gives what writes its annotations."""
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (100, 50)).save(tmp_path / "train2017/1.jpg")
    image = {"id": 1, "file_name": "1.jpg"}
    thing = {"image_id": 1, "bbox": [40, 0, 10, 10], "category_id": 1}

    def write(*changes, categories=None, **of_image):
        things = [{**thing, **change} for change in changes]
        write_coco(tmp_path, [{**image, **of_image}], things, categories)
        return tmp_path

    return write


def test_cocos_labels_count_from_0_without_gaps(coco):
    """COCO's ids run from 1 to 90 and name 80 categories."""
    ids = [90, 1, 13]
    categories = [{"id": number, "name": f"name {number} é"} for number in ids]
    home = coco({"category_id": 90}, {"category_id": 13}, categories=categories)
    got = data.load("coco", root=home)
    assert got["labels"].tolist() == [[2, 1]]
    names = public.category_names(root=home)
    assert names == ("name 1 é", "name 13 é", "name 90 é")
    # a file that lists no categories has those of its annotations
    home = coco({"category_id": 90}, {"category_id": 13})
    assert data.load("coco", root=home)["labels"].tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="names its categories"):
        public.category_names(root=home)


def test_crowds_are_passed_on_and_none_is_assumed(coco):
    got = data.load("coco", root=coco({}, {"iscrowd": 1}, {"iscrowd": 0}))
    assert got["crowd"].tolist() == [[False, True, False]]
    assert got["valid"].all()


def test_boxes_without_an_area_are_left_out(coco):
    empty = [{"bbox": [1, 1, 0, 5]}, {"bbox": [1, 1, 5, 0]}]
    got = data.load("coco", root=coco(*empty, {}), size=100)
    assert got["boxes"].tolist() == [[[40, 0, 50, 10]]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_id": 2}, "expected an image that is listed"),
        ({"bbox": [0, 0, 1]}, "four finite numbers"),
        ({"bbox": [0, 0, float("nan"), 1]}, "four finite numbers"),
    ],
)
def test_wrong_annotations_are_named(coco, change, said):
    with pytest.raises(ValueError, match=said) as error:
        data.load("coco", root=coco(change))
    assert "download" not in str(error.value)


def test_other_wrong_files_of_coco_are_named(coco):
    home = coco({"category_id": 3}, categories=[{"id": 1, "name": "person"}])
    with pytest.raises(ValueError, match="expected a category among"):
        data.load("coco", root=home)
    with pytest.raises(ValueError, match=r"1\.jpg to be 30 x 30 pixels"):
        data.load("coco", root=coco({}, width=30, height=30))
    path = home / "annotations/instances_train2017.json"
    path.write_text(json.dumps({"images": [], "info": {}}), encoding="utf-8")
    with pytest.raises(ValueError, match="expected a list 'annotations'"):
        data.load("coco", root=home)
    path.write_text('{"images": [', encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"damaged.*images\.cocodataset\.org"):
        data.load("coco", root=home)


def test_a_missing_picture_of_coco_is_named(coco):
    home = coco({}, file_name="2.jpg")
    with pytest.raises(FileNotFoundError, match=r"lacks .*2\.jpg") as error:
        data.load("coco", root=home)
    assert "download=True" not in str(error.value)


@pytest.mark.parametrize("given", [{}, {"width": 50, "height": 100}])
def test_a_picture_is_turned_as_its_exif_orientation_says(coco, given):
    """Stored lying, seen upright: its white corner moves from the upper left to the
    upper right, where the box is."""
    home = coco({"bbox": [40, 0, 10, 10]}, **given)
    picture = Image.new("RGB", (100, 50))
    picture.paste((255, 255, 255), (0, 0, 10, 10))
    orientation = Image.Exif()
    orientation[0x112] = 6
    picture.save(home / "train2017/1.jpg", exif=orientation.tobytes(), quality=95)
    got = data.load("coco", root=home, size=100)
    assert got["boxes"].tolist() == [[[40, 0, 50, 10]]]
    assert got["images"][0, :, 1:9, 41:49].min() > 0.9
    assert got["images"][0, :, :, :38].max() < 0.1
    # annotated as it is stored: it stays
    lying = coco({"bbox": [0, 0, 10, 10]}, width=100, height=50)
    got = data.load("coco", root=lying, size=100)
    assert got["images"][0, :, 1:9, 1:9].min() > 0.9


def test_pictures_of_voc_are_turned_where_their_labels_are(tmp_path):
    home = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (home / folder).mkdir(parents=True)
    (home / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    orientation = Image.Exif()
    orientation[0x112] = 6
    picture = Image.new("RGB", (80, 40))
    picture.paste((255, 255, 255), (0, 0, 40, 40))
    for name, shape in (("a", (40, 80)), ("b", (80, 40))):
        path = home / f"JPEGImages/{name}.jpg"
        picture.save(path, exif=orientation.tobytes(), quality=95)
        Image.new("P", shape).save(home / f"SegmentationClass/{name}.png")
    got = data.load("voc_segmentation", root=tmp_path, size=80)
    turned, stored = got["images"].mean(1)
    assert turned[2:38, 2:38].min() > 0.9, "white above"
    assert turned[42:78, 2:38].max() < 0.1
    assert stored[2:38, 2:38].min() > 0.9, "white on the left"
    assert stored[2:38, 42:78].max() < 0.1


@pytest.mark.parametrize("name", public.SOURCES)
def test_missing_data_says_where_it_was_looked_for_and_what_was_expected(
    tmp_path, name
):
    with pytest.raises(FileNotFoundError) as error:
        data.load(name, root=tmp_path)
    source = public.SOURCES[name]
    for part in (name, str(tmp_path), "is not there", source.expects, source.hint):
        assert part in str(error.value)
    # nobody is told to do what is refused
    assert ("download=True" in str(error.value)) == (not name.startswith("coco"))


def test_damaged_data_is_called_damaged(tmp_path):
    write_idx(
        tmp_path / "MNIST/raw/train-images-idx3-ubyte", np.zeros((2, 28, 28), np.uint8)
    )
    for file in (
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ):
        (tmp_path / "MNIST/raw" / file).write_bytes(b"\0\0\x08\x01")
    with pytest.raises(FileNotFoundError, match="damaged or incomplete"):
        data.load("mnist", root=tmp_path)


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    def unreachable(*_):
        raise URLError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", unreachable)
    with pytest.raises(
        ConnectionError, match=r"no network.*cifar-10-batches-py/data_batch_1"
    ):
        data.load("cifar10", root=tmp_path, download=True)
    with pytest.raises(ConnectionError, match=r"images\.cocodataset\.org"):
        data.load("coco", root=tmp_path, download=True)


def test_unknown_names_and_parts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="got 'imagenet'"):
        data.load("imagenet")
    with pytest.raises(ValueError, match="train=True or False"):
        data.load("cifar10", root=tmp_path, train=None)


@pytest.mark.parametrize("name", ["coco", "cifar10", "mnist5k"])
@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"size": -8}, {"limit": 0}, {"limit": -1}]
)
def test_sizes_and_limits_under_one_are_refused(tmp_path, name, wrong):
    with pytest.raises(ValueError, match="at least 1 "):
        data.load(name, root=tmp_path, **wrong)


def test_numpys_whole_numbers_will_do(coco):
    got = data.load("coco", root=coco({}), size=np.int64(50), limit=np.int32(1))
    assert got["images"].shape == (1, 3, 50, 50)


def test_a_root_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        data.load("coco", root="~/pictures")
    assert str(tmp_path / "pictures") in str(error.value)
