import numpy as np
import pytest

from dnr_jax.config import VideoSource
from dnr_jax.data.catalogue.classes import names_for, with_classes


def source(labels, classes) -> VideoSource:
    names = tuple(f"{number}.mp4" for number in range(len(labels)))
    return VideoSource(names, np.array(labels, np.int32), names, classes)


def test_labels_follow_the_names():
    moved = with_classes(source([0, 1, 2, 1], ("a", "b", "c")), ("c", "x", "a", "b"))
    assert moved.labels.tolist() == [2, 3, 0, 3] and moved.labels.dtype == np.int32
    assert moved.classes == ("c", "x", "a", "b")
    assert moved.names == ("0.mp4", "1.mp4", "2.mp4", "3.mp4")


def test_a_class_that_no_video_shows_does_not_matter():
    assert with_classes(source([1, 1], ("new", "a")), ("a", "b")).labels.tolist() == [0, 0]


def test_other_classes_are_named_on_each_side():
    with pytest.raises(ValueError, match="its videos show 'z', which is none of the 2 classes: 'a', 'b'; no .*'b'$"):
        with_classes(source([0, 1], ("a", "z")), ("a", "b"))


@pytest.mark.parametrize(("there", "here"), [(("0", "1"), ("a", "b")), (("a", "b"), ("0", "1"))])
def test_numbers_and_names_are_not_confused(there, here):
    with pytest.raises(ValueError, match="calls classes by number: a label map"):
        with_classes(source([0, 1], there), here)


def test_names_that_are_not_unique_tell_nothing():
    same = source([0, 1], ("a", "a"))
    assert with_classes(same, ("a", "a")) is same
    with pytest.raises(ValueError, match="two classes have the same name"):
        with_classes(same, ("a", "b"))


def test_numbers_go_on_and_names_do_not():
    assert names_for(("0", "1"), 4) == ("0", "1", "2", "3")
    assert names_for(("a", "b"), 2) == ("a", "b")
    with pytest.raises(ValueError, match="is 4, but the data names 2 classes: 'a', 'b'; set .*num_classes=0"):
        names_for(("a", "b"), 4)
    with pytest.raises(ValueError, match="is 1, but the data has 2 classes"):
        names_for(("0", "1"), 1)
