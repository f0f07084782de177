"""What a model's output o stands for, and what follows from it on any path.

| prediction | target of Eq. 1 | x̂_0 (Eq. 7) | ẑ | Look Forward's reward is minus the mean of |
|---|---|---|---|---|
| epsilon | z | (x_t - σ o) / a | o | (σ/a)² (o - target)² |
| v_prediction | a z - σ x_0 | a x_t - σ o | σ x_t + a o | σ² (o - target)² |
| sample | x_0 | o | (x_t - a o) / σ | (o - target)² |
| flow | z - x_0 | x_t - σ o | x_t + (1-σ) o | σ² (o - target)² |

v_prediction: Salimans and Ho (2022), on variance-preserving paths. flow: Liu et al. (2022), Esser et al. (2024).
Of the four only epsilon divides by a, and so cannot look forward from noise alone (a = 0).
"""

from enum import StrEnum

from torch import Tensor

from lookforward.core.path import like


class Prediction(StrEnum):
    """The names are diffusers'. All tensors of a method: (b, c, h, w), levels (b,); results are float32."""

    EPSILON = "epsilon"
    V = "v_prediction"
    SAMPLE = "sample"
    FLOW = "flow"

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, noise_level: Tensor) -> Tensor:
        """What the output is regressed on, Eq. 1."""
        match self:
            case Prediction.EPSILON:
                return noise
            case Prediction.V:
                return like(signal, x_0) * noise - like(noise_level, x_0) * x_0
            case Prediction.SAMPLE:
                return x_0
            case Prediction.FLOW:
                return noise - x_0

    def x_0_hat(self, output: Tensor, x_t: Tensor, signal: Tensor, noise_level: Tensor) -> Tensor:
        """x̂_0,t, the end of the path as seen from timestep t: Eq. 7."""
        a, sigma, o, x_t = like(signal, x_t), like(noise_level, x_t), output.float(), x_t.float()
        match self:
            case Prediction.EPSILON:
                return (x_t - sigma * o) / a
            case Prediction.V:
                return a * x_t - sigma * o
            case Prediction.SAMPLE:
                return o
            case Prediction.FLOW:
                return x_t - sigma * o

    def noise(self, output: Tensor, x_t: Tensor, signal: Tensor, noise_level: Tensor) -> Tensor:
        """ẑ_t, the noise that the model believes to be in x_t."""
        a, sigma, o, x_t = like(signal, x_t), like(noise_level, x_t), output.float(), x_t.float()
        match self:
            case Prediction.EPSILON:
                return o
            case Prediction.V:
                return sigma * x_t + a * o
            case Prediction.SAMPLE:
                return (x_t - a * o) / sigma
            case Prediction.FLOW:
                return x_t + (1 - sigma) * o
