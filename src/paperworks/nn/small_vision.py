"""Small image classifiers of our own, for experiments that end on two cores: a four-layer network and narrow residual networks.

All take float images (n, channels, h, w) in [0, 1], of any size from 8 x 8, and return logits (n, classes). Weights come from PyTorch's
global generator: seed it before (`vision_training.train` does).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import InputError


class SmallCNN(nn.Sequential):
    """Four 3 x 3 convolutions of `widths` filters with strides 1, 2, 2, 2, batch norm and ReLU, then the mean over places.

    About 70,000 weights at the default widths (16, 32, 64, 64).
    """

    def __init__(self, classes: int, channels: int = 3, widths: Sequence[int] = (16, 32, 64, 64)) -> None:
        layers: list[nn.Module] = []
        before = channels
        for index, width in enumerate(widths):
            layers += [
                nn.Conv2d(before, width, 3, stride=1 if index == 0 else 2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            before = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a way around them; `before_activation` puts norm and ReLU before each convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, before_activation: bool) -> None:
        super().__init__()
        self.before_activation = before_activation
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inputs if before_activation else outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            if not before_activation:
                self.around = nn.Sequential(self.around, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.before_activation:
            ready = F.relu(self.norm1(x))
            around = x if isinstance(self.around, nn.Identity) else self.around(ready)
            return self.conv2(F.relu(self.norm2(self.conv1(ready)))) + around
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + self.around(x))


class ResNet(nn.Module):
    """A residual network for small pictures: a 3 x 3 stem, then stages of blocks, each after the first at half the size and twice the width.

    blocks: blocks a stage; (2, 2, 2, 2) with width 64 is the ResNet-18 of CIFAR work, width 16 has 0.7 million weights; (1, 1, 1, 1) is
    ResNet-10. before_activation: the 'PreAct' form. stem_stride: 2 quarters the work.
    """

    def __init__(
        self,
        classes: int,
        channels: int = 3,
        width: int = 16,
        blocks: Sequence[int] = (2, 2, 2, 2),
        before_activation: bool = False,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if not blocks or min(blocks) < 1:
            raise InputError(f"a residual network has one block a stage or more, not {tuple(blocks)}")
        self.stem = nn.Conv2d(channels, width, 3, stem_stride, 1, bias=False)
        self.stem_norm: nn.Module = nn.Identity() if before_activation else nn.BatchNorm2d(width)
        layers, inputs = [], width
        for stage, count in enumerate(blocks):
            outputs = width * 2**stage
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(_Block(inputs, outputs, stride, before_activation))
                inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.last_norm: nn.Module = nn.BatchNorm2d(inputs) if before_activation else nn.Identity()
        self.head = nn.Linear(inputs, classes)
        self.before_activation = before_activation

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if not self.before_activation:
            x = F.relu(self.stem_norm(x))
        x = self.layers(x)
        if self.before_activation:
            x = F.relu(self.last_norm(x))
        return self.head(x.mean(dim=(2, 3)))


def small_vision_model(name: str, classes: int, channels: int = 3) -> nn.Module:
    """A model by name: `cnn`, `resnet10`, `resnet18`, `preact10`, `preact18`, each with `-WIDTH`, as in `resnet18-16` (default 64).

    Raises InputError that lists the names for any other.
    """
    kind, _, width = name.partition("-")
    if width and not width.isdigit():
        raise InputError(f"the width in {name!r} is a whole number, as in resnet18-16")
    if kind == "cnn":
        first = int(width or 16)
        return SmallCNN(classes, channels, (first, 2 * first, 4 * first, 4 * first))
    depth = {"10": (1, 1, 1, 1), "18": (2, 2, 2, 2)}.get(kind[-2:])
    if kind[:-2] in ("resnet", "preact") and depth:
        return ResNet(classes, channels, int(width or 64), depth, before_activation=kind.startswith("preact"))
    raise InputError(
        f"there is no small model {name!r}; there are cnn, resnet10, resnet18, preact10, preact18, and -WIDTH"
    )
