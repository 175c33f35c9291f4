"""The official data sets: their files, checksums, addresses, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from neurosim.data.folders import tiny_imagenet
from neurosim.data.formats import Contents, Parsed, parse_cifar, parse_mnist, parse_svhn
from neurosim.data.official import Member, Official, Place, contents

DIGITS = tuple(map(str, range(10)))
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

# Names and MD5 checksums, of idx files first compressed and then not.
MNIST = """
train-images-idx3-ubyte f68b3c2dcbeaaa9fbdd348bbdeb94873 6bbc9ace898e44ae57da46a324031adb
train-labels-idx1-ubyte d53e105ee54ea40749a09fcbcd1e9432 a25bea736e30d166cdddb491f175f624
t10k-images-idx3-ubyte  9fb629c4189551a2d022fa330f9573f3 2646ac647ad5339dbf082846283269ea
t10k-labels-idx1-ubyte  ec29112dd5afa0611ce80d1b7f02629c 27ae3e4e09519cfbb04c329615203637
"""
FASHION_MNIST = """
train-images-idx3-ubyte 8d4fb7e6c68d591d4c3dfef9ec88bf0d f4a8712d7a061bf5bd6d2ca38dc4d50a
train-labels-idx1-ubyte 25c81989df183df01b3e8a0aad5dffbe 9018921c3c673c538a1fc5bad174d6f9
t10k-images-idx3-ubyte  bef4ecab320f06d8554ea6380940ec79 8181f5470baa50b63fa0f6fddb340f0a
t10k-labels-idx1-ubyte  bb300cfdad3c16e7a12a480ee83cd310 15d484375f8d13e6eb1aabb0c3f46965
"""
CIFAR10 = """
data_batch_1 c99cafc152244af753f735de768cd75f
data_batch_2 d4bba439e000b95fd0a9bffe97cbabec
data_batch_3 54ebc095f3ab1f0389bbae665268c751
data_batch_4 634d18415352ddfa80567beed471001a
data_batch_5 482c414d41f54cd18b22e5b47cb7c3cb
test_batch   40351d587109b95175f43aff81a1287e
batches.meta 5ff9c542aee3614f3951f8cda6e48888
"""
CIFAR100 = """
train 16019d7e3df5f24257cddd939b257f8d
test  f0ef6b0ae62326f3e7ffdfab6717acfc
meta  7973b15100ade9c7d40fb424638fde48
"""
SVHN = """
train_32x32.mat e26dedcc434d2e4c54c9b2d4a06d8373
test_32x32.mat  eb5a983be6a315427106f1b164d9cef3
"""


@dataclass(frozen=True)
class Source:
    """Official files, the folders of the data folder they may be in, and how they are read."""

    files: tuple[Official, ...]
    folders: tuple[str, ...]
    parse: Callable[[Contents], Parsed]

    def read(self, place: Place) -> Parsed:
        """The data set, from files whose checksums are right."""
        folders, found = place.within(*self.folders), {}
        for file in self.files:
            found |= contents(file, folders, download=place.download)
        return self.parse(found)


@dataclass(frozen=True)
class TinyImageNet:
    """An archive of images, and how many there must be to train and to test with."""

    file: Official
    images: tuple[int, int] = (100_000, 10_000)

    def read(self, place: Place) -> Parsed:
        """The data set, from the archive or from the folder it unpacks to."""
        return tiny_imagenet(self.file, place, self.images)


def _table(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().splitlines()]


def _compressed(url: str, table: str) -> tuple[Official, ...]:
    """Files that are compressed one by one."""
    return tuple(
        Official(f"{name}.gz", packed, f"{url}/{name}.gz", (Member(name, plain),))
        for name, packed, plain in _table(table)
    )


def _archive(url: str, md5: str, folder: str, table: str) -> tuple[Official, ...]:
    """One archive of a folder, and the table of its members."""
    members = tuple(Member(f"{folder}/{member}", plain) for member, plain in _table(table))
    return (Official(url.rpartition("/")[2], md5, url, members),)


def _plain(url: str, table: str) -> tuple[Official, ...]:
    """Files as they are."""
    return tuple(Official(name, md5, f"{url}/{name}") for name, md5 in _table(table))


SOURCES: dict[str, Source | TinyImageNet] = {
    "mnist": Source(
        _compressed("https://ossci-datasets.s3.amazonaws.com/mnist", MNIST),
        ("mnist", "MNIST/raw"),
        partial(parse_mnist, class_names=DIGITS),
    ),
    "fashion-mnist": Source(
        _compressed("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", FASHION_MNIST),
        ("fashion-mnist", "FashionMNIST/raw"),
        partial(parse_mnist, class_names=CLOTHES),
    ),
    "cifar10": Source(
        _archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            "cifar-10-batches-py",
            CIFAR10,
        ),
        ("cifar10",),
        partial(parse_cifar, labels="labels", names="label_names"),
    ),
    "cifar100": Source(
        _archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-python",
            CIFAR100,
        ),
        ("cifar100",),
        partial(parse_cifar, labels="fine_labels", names="fine_label_names"),
    ),
    "svhn": Source(
        _plain("http://ufldl.stanford.edu/housenumbers", SVHN),
        ("svhn",),
        partial(parse_svhn, class_names=DIGITS),
    ),
    "tinyimagenet": TinyImageNet(
        Official(
            "tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        )
    ),
}
