"""What `stiffness` finds: spectra and steps that print as tables, draw themselves, save as JSON."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from expint.results import Result, Rows, new_figure

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class StepStiffness:
    """One form on the plan's steps, or with equal steps in a clock: rates per unit of λ at the
    plan's times, times the step in λ there. Decay is negative.

    Attributes:
        form, clock: their names.
        linear: of the linear part.
        low, high: least and greatest real part over all states of the Jacobian's eigenvalues.
        radius: largest modulus over all states.
        ideal: the radius that every step would have if as many of them shared it equally; about
            the least possible peak.
    """

    form: str
    clock: str
    linear: Numbers
    low: Numbers
    high: Numbers
    radius: Numbers
    ideal: float

    @property
    def peak(self) -> float:
        """The largest radius."""
        return max(self.radius)


@dataclass(frozen=True)
class StiffnessStudy(Result):
    """What `stiffness` found, for the steps between finite noise levels, from noise to data.

    Attributes:
        model: in words.
        setting: stochasticity, grid, states and Krylov vectors, in words.
        times, sigmas: at the start of each step.
        steps: in λ.
        low, high: least and greatest real part of the eigenvalues of α ∂D/∂x over all states.
        imaginary: their largest imaginary part.
        mean: of all eigenvalues and states, a Hutchinson estimate: trace over dimension.
        parts: one for each form and clock.
    """

    model: str
    setting: str
    times: Numbers
    sigmas: Numbers
    steps: Numbers
    low: Numbers
    high: Numbers
    imaginary: Numbers
    mean: Numbers
    parts: tuple[StepStiffness, ...]

    def part(self, form: str, clock: str = "plan") -> StepStiffness:
        """That of a form and clock.

        Raises:
            KeyError: if it was not studied.
        """
        for part in self.parts:
            if (part.form, part.clock) == (form, clock):
                return part
        raise KeyError((form, clock))

    def least(self) -> StepStiffness:
        """The form and clock of the least peak."""
        return min(self.parts, key=lambda part: part.peak)

    def blocks(self) -> Iterator[str | Rows]:
        """The spectrum and each form's steps by noise level, then forms and clocks."""
        columns = {
            "sigma": self.sigmas, "step in lambda": self.steps, "g low": self.low,
            "g mean": self.mean, "g high": self.high,
        }  # fmt: skip
        for part in self.parts:
            if part.clock == self.parts[0].clock:
                columns |= {f"{part.form} linear": part.linear, f"{part.form} F": part.radius}
        yield f"{self.model}: {self.setting}"
        yield ""
        cells = zip(*columns.values(), strict=True)
        yield [tuple(columns), *(tuple(f"{value:.3g}" for value in row) for row in cells)]
        yield ""
        head = ("form", "steps", "stiffest", "at sigma", "shared equally", "linear, stiffest")
        rows: list[tuple[str, ...]] = [head]
        for part in self.parts:
            place = self.sigmas[part.radius.index(part.peak)]
            numbers = (part.peak, place, part.ideal, max(map(abs, part.linear)))
            rows.append((part.form, part.clock, *(f"{value:.3g}" for value in numbers)))
        yield rows

    def figure(self) -> Any:
        """The spectrum against σ, and the stiffness of the steps in each form."""
        figure = new_figure(10.0, 4.2)
        left, right = figure.subplots(1, 2)
        left.fill_between(self.sigmas, self.low, self.high, color="C0", alpha=0.25)
        left.plot(self.sigmas, self.mean, color="C0", label="mean")
        left.set(ylabel="eigenvalues g of α ∂D/∂x")
        left.set_yscale("symlog", linthresh=0.1)
        for i, part in enumerate(p for p in self.parts if p.clock == self.parts[0].clock):
            style: dict[str, Any] = {"color": f"C{i}"}
            right.plot(self.sigmas, part.radius, "o-", markersize=3, label=part.form, **style)
            right.plot(self.sigmas, [abs(value) for value in part.linear], ":", **style)
        right.set(ylabel="rate × step (dotted: linear part)", yscale="log")
        for axes in (left, right):
            axes.set(xscale="log", xlabel="σ")
            axes.invert_xaxis()
            axes.grid(visible=True, color="0.9")
            axes.legend(fontsize=8)
        figure.suptitle(f"{self.model}, {self.setting}", fontsize=10)
        return figure
