"""Rewards that compare the image with the reference photo: SSIM, LPIPS, DreamSim."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from errors import raises
from lookforward.core.protocols import Reward
from lookforward.core.specs import Resources
from lookforward.models.encoders import Encoders
from lookforward.models.encoders.perceptual import load_dreamsim, load_lpips
from lookforward.rewards import DREAMSIM, LPIPS, SSIM
from lookforward.rewards.ssim import ssim
from tiny import seeded
from tiny_rewards import assert_gradient, grain, pictures, with_images


class FakeLpips(nn.Module):
    """With the shape and the range of the real one: squared error of pixels in [-1, 1], (b, 1, 1, 1)."""

    def __init__(self, net: str = "alex", verbose: bool = True) -> None:
        super().__init__()
        assert net == "alex"
        if verbose:
            print("Setting up")
        self.lin = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor, y: Tensor, normalize: bool = False) -> Tensor:
        scale = 2.0 if normalize else 1.0
        return (scale**2 * (x - y) ** 2).mean(dim=(1, 2, 3), keepdim=True)


class FakeDreamsim(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        assert x.shape[-2:] == y.shape[-2:] == (224, 224)
        assert 0 <= float(x.detach().min()) <= float(x.detach().max()) <= 1
        return 1 - torch.cosine_similarity(x.flatten(1), y.flatten(1))


def fake_dreamsim(pretrained: bool, device: str, cache_dir: str) -> tuple[nn.Module, Callable[..., Tensor]]:
    assert pretrained
    assert device == "cpu"
    assert Path(cache_dir).is_dir()
    print("Downloading checkpoint")
    return FakeDreamsim(), torch.as_tensor


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both packages, as if they were installed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name, member, value in (("lpips", "LPIPS", FakeLpips), ("dreamsim", "dreamsim", fake_dreamsim)):
        module = ModuleType(name)
        setattr(module, member, value)
        monkeypatch.setitem(sys.modules, name, module)


MAKE: dict[str, Callable[[], Reward]] = {
    spec.name: lambda spec=spec: spec.build(spec.name, Resources(Encoders({}), pictures(1)))
    for spec in (SSIM, LPIPS, DREAMSIM)
}
each_reward = pytest.mark.parametrize(("name", "make"), MAKE.items(), ids=list(MAKE))


@pytest.mark.usefixtures("packages")
@each_reward
def test_best_where_equal_and_rising_towards_it(name: str, make: Callable[[], Reward]) -> None:
    reward = make()
    photo = pictures(1)
    images = torch.cat([photo + share * 0.2 * grain(photo) for share in (1.0, 0.5, 0.1, 0.0)]).clamp(0, 1)
    values = reward(with_images(images, photo.expand(4, -1, -1, -1), [""] * 4))
    assert values.shape == (4,)
    assert values.dtype == torch.float32
    assert (values.diff() > 0).all()
    assert float(values[-1]) == pytest.approx(1 if name == "ssim" else 0, abs=1e-5)
    assert (reward.name, reward.needs_image) == (name, True)


@pytest.mark.usefixtures("packages")
@each_reward
def test_gradient_agrees_with_finite_differences(name: str, make: Callable[[], Reward]) -> None:
    photo = pictures(seed=5).double()
    assert_gradient(make(), with_images(pictures(), photo))


@pytest.mark.usefixtures("packages")
@each_reward
def test_photo_is_required_and_must_match(name: str, make: Callable[[], Reward]) -> None:
    with pytest.raises(ValueError, match=f"'{name}' looks at the reference photo"):
        make()(with_images(pictures()))
    with pytest.raises(ValueError, match=r"compares \(3, 3, 32, 32\) with a photo of \(3, 3, 16, 16\)"):
        make()(with_images(pictures(), pictures(side=16)))


def ssim_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Eqs. 13 to 16 of Wang et al., 2004, window by window; x and y (3, h, w)."""
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    w = np.outer(axis, axis) / np.outer(axis, axis).sum()
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for colour in range(3):
        for top in range(x.shape[1] - 10):
            for left in range(x.shape[2] - 10):
                p = x[colour, top : top + 11, left : left + 11]
                q = y[colour, top : top + 11, left : left + 11]
                mp, mq = (w * p).sum(), (w * q).sum()
                vp, vq = (w * (p - mp) ** 2).sum(), (w * (q - mq) ** 2).sum()
                cov = (w * (p - mp) * (q - mq)).sum()
                values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ssim_is_that_of_the_paper(dtype: torch.dtype) -> None:
    x = torch.rand(2, 3, 15, 19, generator=seeded(1), dtype=torch.float64)
    y = (0.6 * x + 0.4 * torch.rand(x.shape, generator=seeded(2), dtype=torch.float64)) ** 1.5
    expected = torch.tensor([ssim_by_hand(a.numpy(), b.numpy()) for a, b in zip(x, y, strict=True)])
    assert float(expected.max()) < 0.95
    torch.testing.assert_close(ssim(x.to(dtype), y.to(dtype)).double(), expected.double(), rtol=1e-5, atol=1e-6)


def test_ssim_is_that_of_skimage() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    x, y = pictures(1, seed=1)[0].double(), pictures(1, seed=2)[0].double()
    _, everywhere = metrics.structural_similarity(
        x.numpy(), y.numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    expected = everywhere[:, 5:-5, 5:-5].mean()  # without its padding
    assert float(ssim(x[None], y[None])) == pytest.approx(expected, rel=1e-9)


@given(a=st.integers(0, 999), b=st.integers(0, 999), contrast=st.floats(0, 1))
def test_ssim_is_symmetric_and_within_its_range(a: int, b: int, contrast: float) -> None:
    x = torch.rand(1, 3, 12, 13, generator=seeded(a))
    y = 0.5 + contrast * (torch.rand(x.shape, generator=seeded(b)) - 0.5)
    value = ssim(x, y)
    torch.testing.assert_close(value, ssim(y, x), rtol=1e-4, atol=1e-5)
    assert -1 <= float(value) <= 1
    torch.testing.assert_close(ssim(y, y), torch.ones(1), rtol=1e-5, atol=0.0)


def test_ssim_of_an_image_and_its_negative_is_below_nought() -> None:
    x = torch.rand(1, 3, 16, 16, generator=seeded())
    assert float(ssim(x, 1 - x)) < -0.5


def test_ssim_needs_room_for_its_window() -> None:
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(pictures(side=10), pictures(side=10))


@pytest.mark.usefixtures("packages")
def test_lpips_is_given_that_pixels_are_in_0_to_1(capsys: pytest.CaptureFixture[str]) -> None:
    reward = LPIPS.build("lpips", Resources(Encoders({}), pictures(1)))
    image, photo = pictures(), pictures(seed=5)
    expected = -(4 * (image - photo) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(reward(with_images(image, photo)), expected)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("packages")
def test_dreamsim_of_one_image(capsys: pytest.CaptureFixture[str]) -> None:
    """The real one returns a number without a shape where it is not set to normalise."""
    reward = DREAMSIM.build("dreamsim", Resources(Encoders({}), pictures(1)))
    image, photo = pictures(1), pictures(1, seed=5)
    value = reward(with_images(image, photo))
    assert value.shape == (1,)
    assert -2 <= float(value) < 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "load"), [("lpips", load_lpips), ("dreamsim", load_dreamsim)])
def test_a_missing_package_is_named_with_its_remedy(
    name: str, load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # import raises ModuleNotFoundError
    with raises("package-missing", f"pip install {name}"):
        load()


def test_weights_that_cannot_be_fetched_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(**_: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=unreachable))
    with raises("encoder-unreadable", "lpips", "Name or service not known"):
        load_lpips()
