"""What a model's output o stands for, and what follows from it on any path.

| prediction | target of Eq. 1 | x̂_0 (Eq. 7) | ẑ | Look Forward's reward is minus the mean of |
|---|---|---|---|---|
| epsilon | z | (x_t - σ o) / a | o | (σ/a)² (o - target)² |
| v_prediction | a z - σ x_0 | a x_t - σ o | σ x_t + a o | σ² (o - target)² |
| sample | x_0 | o | (x_t - a o) / σ | (o - target)² |
| flow | z - x_0 | x_t - σ o | x_t + (1-σ) o | σ² (o - target)² |

v_prediction: Salimans and Ho (2022), on variance-preserving paths. flow: Liu et al. (2022), Esser et al. (2024).
Of the four only epsilon divides by a, and so cannot look forward from noise alone (a = 0).

What λ and γ mean for bounded weights. x_t is given, so a model that misses the noise misses the image with it:
a (x̂_0 - x_0) = -σ (ẑ - z). With n = mean (ẑ - z)² and l = mean (x̂_0 - x_0)² = (σ/a)² n, the loss of Eq. 1 is

    epsilon n,    v_prediction n + l,    flow n + 2 √(n l) + l.

So a model that regresses v or a flow looks forward already, at λ = γ = 1, and Look Forward adds to epsilon what those
have. Measured by the model's own loss, λ γ^t r weighs λ γ^t (σ/a)² for epsilon: on Stable Diffusion 1's path, at the
paper's γ = 0.9986, 5.9 λ in the mean over t and 53 λ at most. For v and flow it weighs λ γ^t σ², at most λ: on Stable
Diffusion 3's path (shift 3, logit-normal t) 0.54 λ in the mean at γ = 1. The same mean weight takes λ 11 times as large
there. γ^t keeps (σ/a)² within bounds at the noisy end, from 214 to 53; σ² is bounded, and γ < 1 only moves its greatest
weight from t = T to the middle (t = 630 at 0.9986), so that γ = 1 is the neutral choice. With a critic on normalised
returns (`critics.scale`), which have deviation 1 at every timestep, λ means the same on every path.
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

    def min_snr_weight(self, signal: Tensor, noise_level: Tensor, limit: float) -> Tensor:
        """Of min-SNR weighting (Hang et al., 2023), (b,): makes the loss on the output min(SNR, limit) · ‖x̂_0 - x_0‖².

        SNR = a²/σ². The weights of their section 3.4, min(SNR, limit) over SNR for epsilon and over SNR + 1 for v,
        are written so that nothing is divided by a = 0.

        Raises:
            ValueError: of a flow, which weighs levels by how often it draws them.
        """
        a, sigma = signal.double() ** 2, noise_level.double() ** 2
        match self:
            case Prediction.EPSILON:
                weight = (limit * sigma / a).clamp(max=1.0)
            case Prediction.V:  # a² + σ² = 1
                weight = a.minimum(limit * sigma)
            case Prediction.SAMPLE:
                weight = (a / sigma).clamp(max=limit)
            case Prediction.FLOW:
                raise ValueError("min-SNR weighting is not defined for a flow")
        return weight.float()

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
