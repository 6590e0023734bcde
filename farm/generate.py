"""Days of surfaces from a stored trial: ``python -m farm.generate --run SIGNATURE --out FILE``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.base.command_line import run as run_command
from farm.base.errors import UserError, one_line
from farm.base.files import check_output

if TYPE_CHECKING:  # imported where they are used, so that --help is immediate
    from farm.base.model import Model
    from farm.base.surfaces import Past, Paths
    from farm.base.types import Dates, Floats
    from farm.data.surface import Surfaces
    from farm.experiment import TrialConfig
    from farm.store import Store
    from farm.training.rollout import DeploymentConfig

LEVELS = (0.05, 0.5, 0.95)
PIECE = 16_000_000  # numbers that the passes of the samples computed together may hold
ROWS = 50  # samples in a row group of a parquet file

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def generate(
    run: Annotated[str, typer.Option(help="Signature of a finished trial of the surface study.")],
    out: Annotated[Path, typer.Option(help="File to write, .npz or .parquet.")],
    days: Annotated[
        int, typer.Option(min=1, max=100_000, help="Days to generate: 126 are six months, 252 a year.")
    ] = 252,
    samples: Annotated[int, typer.Option(min=1, max=10_000_000, help="Paths to draw.")] = 1000,
    horizon: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Days of a pass.", show_default="the run's")
    ] = None,
    offset: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Days between the starts of two passes: 90 is fast, 45 averages overlaps.",
            show_default="the run's",
        ),
    ] = None,
    spread: Annotated[
        str | None,
        typer.Option(help="What makes paths differ: fan or latent.", show_default="the run's"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="First day to generate, YYYY-MM-DD; every day before it is known.",
            show_default="the day after the last",
        ),
    ] = None,
    surface: Annotated[
        Path | None,
        typer.Option(help="The surfaces that the run read.", show_default="the simulated ones"),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            envvar="FARM_STORAGE",
            show_envvar=True,
            help="Where results are kept by signature: a folder or an s3:// or gs:// URI.",
        ),
    ] = "farm_store",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Decides the draws.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
) -> None:
    """Generate days of implied-volatility surfaces with a stored trial: samples and their quantiles.

    A network rolls out pass after pass. A baseline draws its days in one go, so --horizon, --offset and
    --spread leave it as it is.
    """
    from farm.store import Store

    write = _writer(out)
    kept = None if "://" in storage else Path(storage)
    check_output("--out", out, {"--surface": surface, "--storage": kept}, force=force)
    taught = restore(Store(storage), run, surface)
    deployment = taught.deployment(days, horizon, offset, spread)
    made = generate_days(taught, deployment, samples, seed, taught.row(start))
    try:
        write(out, made)
    except OSError as error:
        raise _unwritable(out, error.strerror or str(error)) from error
    first, last = made.dates[0], made.dates[-1]
    typer.echo(f"{out}: {samples} paths of {days} days, {first} to {last}, by {made.facts['model']}")
    if made.facts["in_sample"]:
        typer.echo(f"the model has learnt from days up to {made.facts['learnt_until']}: this is in-sample")


@dataclass(frozen=True)
class Taught:
    """A stored trial, ready to generate.

    Parameters
    ----------
    signature, config
        Its name and what it was.
    surfaces
        What it read.
    past
        All days of them, as the model reads them.
    learnt_until
        Last day of its training block.
    model
        With what it learnt.
    context
        Days that must be known before the first one.
    """

    signature: str
    config: TrialConfig
    surfaces: Surfaces
    past: Past
    learnt_until: Any
    model: Model
    context: int

    @property
    def rolls(self) -> bool:
        """Say whether it rolls out pass after pass."""
        from farm.models.surface_cvae import SurfaceCVAE

        return isinstance(self.model, SurfaceCVAE)

    def draw(self, past: Past, deployment: DeploymentConfig, samples: int, seed: int) -> Paths:
        """Draw paths of the days after what is known."""
        from farm.base.model import PathGenerator
        from farm.models.surface_cvae import SurfaceCVAE
        from farm.training.rollout import generate_paths

        if isinstance(self.model, SurfaceCVAE):
            return generate_paths(self.model, past, deployment, samples, seed)
        assert isinstance(self.model, PathGenerator)  # the study takes no other
        return self.model.generate(past, deployment.days, samples, seed)

    def deployment(
        self, days: int, horizon: int | None = None, offset: int | None = None, spread: str | None = None
    ) -> DeploymentConfig:
        """Say how days are generated; what is None is as the run was evaluated.

        Raises
        ------
        UserError
            If the offset is larger than the horizon, or the spread unknown.
        """
        from farm.studies.surface import SurfaceStudy
        from farm.training.rollout import DeploymentConfig

        study = self.config.study
        assert isinstance(study, SurfaceStudy)  # held by `restore`
        values = {
            "days": days,
            "horizon": horizon or study.horizon,
            "offset": offset or study.offset,
            "spread": spread or study.spread,
        }
        return DeploymentConfig.make(values, "generate")

    def row(self, start: str | None) -> int:
        """Find the row of the first day to generate; the one after the last day by default.

        Raises
        ------
        UserError
            If it is no day, lies after the last day, or fewer days are known than the model reads.
        """
        import numpy as np

        dates, context = self.past.days, self.context
        if start is None:
            return len(dates)
        try:
            day = np.datetime64(start, "D")
        except ValueError:
            raise UserError(f"--start: got {start!r}, expected a day as YYYY-MM-DD: correct it") from None
        if not day <= dates[-1]:
            raise UserError(
                f"--start: got {start}, expected a day up to {dates[-1]}, the last one known: leave --start"
                " out to generate the days after it"
            )
        row = int(np.searchsorted(dates, day))
        if row < context:
            raise UserError(
                f"--start: got {start}, which {row} days come before, expected the {context} that the model"
                f" reads: begin on {dates[context]} or later"
            )
        return row


@dataclass(frozen=True)
class GeneratedDays:
    """Generated days and how they came about.

    Parameters
    ----------
    samples
        Implied volatilities, (S, days, W, M) float32.
    quantiles
        Of the samples at `LEVELS`, (3, days, W, M) float32.
    returns
        Daily log returns, (S, days) float32; None from a model that generates none.
    dates
        The days, (days,): those of the record as far as it goes, business days (Monday to Friday)
        after it.
    maturities, strikes
        The grid: years, (W,), and K/S or call delta, (M,), as ``facts["axis"]`` says.
    facts
        JSON-ready: signature, model, data, deployment, seed, and whether the model has learnt from
        those days.
    """

    samples: Floats
    quantiles: Floats
    returns: Floats | None
    dates: Dates
    maturities: Floats
    strikes: Floats
    facts: dict[str, Any]


def restore(store: Store, signature: str, surface: Path | None = None) -> Taught:
    """Rebuild a stored trial's model with what it learnt.

    Parameters
    ----------
    store
        Where its result is.
    signature
        Its name.
    surface
        The file of surfaces that it read; None for the simulated ones.

    Raises
    ------
    UserError
        If there is no such trial, it is not of the surface study, or the surfaces are not those that
        it read.
    """
    config = _config(store, signature)

    from farm.base.surfaces import SurfaceWindows
    from farm.data.simulate import simulate
    from farm.data.surface import read_surfaces
    from farm.experiment import resolve_device
    from farm.models.surface_cvae import SurfaceCVAE

    surfaces = simulate().surfaces if surface is None else read_surfaces(surface)
    if (found := config.signature(surfaces)) != signature:
        raise UserError(
            f"run {signature} has read other surfaces than {surfaces.source} (with these it would be"
            f" {found}), or an older version of the farm wrote it: give its own file with --surface (of a run"
            " with a first or last day, a file of those days), or run its sweep again"
        )
    data = config.study.dataset(surfaces)
    train, test = data.train, data.open_test()
    assert isinstance(train, SurfaceWindows)
    assert isinstance(test, SurfaceWindows)
    model = config.model.build(data.inputs)
    learnt = store.model_state(signature)
    model.load_state({name[6:]: value for name, value in learnt.items() if name.startswith("model.")})
    if isinstance(model, SurfaceCVAE):
        model.to(resolve_device("auto"))
    until = train.past.days[-1]
    return Taught(signature, config, surfaces, test.past, until, model, data.inputs.lookback)


def _config(store: Store, signature: str) -> TrialConfig:
    """Read a trial's config."""
    from pydantic import ValidationError

    record = store.get(signature)
    if record is None:
        raise UserError(
            f"no finished run {signature!r} in {store.root}: python -m farm.sweep surface --dry-run lists the"
            " signatures of a sweep and says which are there; --storage names another place"
        )
    study = record.config["study"]["name"]
    if study != "surface":
        raise UserError(
            f"run {signature} is of the study {study}, expected surface: give a run of a sweep over surfaces"
        )
    from farm.experiment import TrialConfig  # torch is slow to import

    try:
        return TrialConfig.model_validate_json(json.dumps(record.config))
    except ValidationError as error:
        raise UserError(one_line(error, f"run {signature}", TrialConfig.model_fields)) from error


def generate_days(
    taught: Taught, deployment: DeploymentConfig, samples: int, seed: int = 0, row: int | None = None
) -> GeneratedDays:
    """Generate days of surfaces.

    Parameters
    ----------
    taught
        See `restore`.
    deployment
        Which days and how.
    samples
        Paths, S; drawn about a thousand at a time, on torch's threads, so that memory is that of the result.
    seed
        Equal seeds give equal bits for equal other arguments.
    row
        Of the first day; None for the day after the last one known.

    Raises
    ------
    UserError
        If the samples would not fit into memory.
    """
    import numpy as np

    surfaces, days = taught.surfaces, deployment.days
    grid = surfaces.iv.shape[1:]
    row = len(surfaces) if row is None else row
    _fits(samples, days * (grid[0] * grid[1] + 1))
    past = taught.past
    known = type(past)(past.days[:row], past.surface[:row], past.extra[:row], past.vectors[:row])
    rows = deployment.passes * deployment.horizon if taught.rolls else days
    piece = max(1, PIECE // (rows * grid[0] * grid[1]))
    volatility = np.empty((samples, days, *grid), dtype=np.float32)
    returns: Floats | None = np.empty((samples, days), dtype=np.float32)
    for first in range(0, samples, piece):
        some = slice(first, min(first + piece, samples))
        draws = int(np.random.SeedSequence((seed, first)).generate_state(1)[0])
        paths = taught.draw(known, deployment, some.stop - some.start, draws)
        volatility[some] = paths.samples
        if returns is None or paths.returns is None:
            returns = None
        else:
            returns[some] = paths.returns
    quantiles = np.stack([np.quantile(volatility[:, day], LEVELS, axis=0) for day in range(days)], axis=1)
    dates = surfaces.dates[row : row + days]
    ahead = np.arange(1, days - len(dates) + 1)
    later = np.busday_offset(surfaces.dates[-1], ahead, roll="backward")
    dates = np.concatenate([dates, later])
    facts = {
        "signature": taught.signature,
        "model": taught.config.model.name,
        "data": surfaces.source,
        "axis": surfaces.axis,
        "levels": LEVELS,
        "last_known": str(known.days[-1]),
        "learnt_until": str(taught.learnt_until),
        "in_sample": bool(dates[0] <= taught.learnt_until),
        "seed": seed,
        **{
            name: getattr(deployment, name) if taught.rolls else None
            for name in ("horizon", "offset", "passes", "spread")
        },
    }
    return GeneratedDays(
        volatility,
        quantiles.astype(np.float32),
        returns,
        dates,
        surfaces.maturities,
        surfaces.strikes,
        facts,
    )


def _fits(samples: int, numbers: int) -> None:
    """Refuse samples, of so many float32 numbers each, that the machine has no memory for."""
    needed = 4 * (samples * numbers + 10 * PIECE)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"--samples: {samples} paths need {needed / 2**30:.3g} GiB of memory, this machine has"
            f" {there / 2**30:.3g}: ask for at most {max(there // 2 // (4 * numbers), 1)}, or fewer days"
        )


def _writer(out: Path) -> Callable[[Path, GeneratedDays], None]:
    """Choose how to write a file, before anything is computed."""
    writers = {".npz": write_npz, ".parquet": write_parquet}
    if out.suffix not in writers:
        raise UserError(f"--out: got {str(out)!r}, expected a name that ends in .npz or .parquet: rename it")
    if out.is_dir():
        raise _unwritable(out, "it is a folder")
    if not out.parent.is_dir():
        raise _unwritable(out, "its folder does not exist")
    if not os.access(out.parent, os.W_OK):
        raise _unwritable(out, "its folder may not be written to")
    return writers[out.suffix]


def _unwritable(out: Path, reason: str) -> UserError:
    return UserError(f"--out: {str(out)!r} cannot be written ({reason}): give a file in a folder of yours")


def write_npz(path: Path, made: GeneratedDays) -> None:
    """Write the arrays of `GeneratedDays` by their names, whole or not at all.

    `facts` are JSON in an array without dimensions; `returns` are left out where there are none.
    """
    import numpy as np

    from farm.base.files import atomically

    arrays: dict[str, Any] = {name: value for name, value in vars(made).items() if value is not None}
    arrays["facts"] = np.array(json.dumps(made.facts))
    arrays["levels"] = np.array(LEVELS)
    with atomically(path) as file:
        np.savez(file, **arrays)


def write_parquet(path: Path, made: GeneratedDays) -> None:
    """Write a row for each sample, day and cell, whole or not at all.

    The columns are those that `farm.data.surface.read_surfaces` knows, so one sample alone is a file of
    surfaces, with ``sample`` and the quantiles of the cell over all samples (``q05``, ``q50``, ``q95``)
    beside them. `facts` are JSON under ``farm`` in the schema's metadata.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from farm.base.files import atomically
    from farm.base.types import quantile_name

    samples, days, *grid = made.samples.shape
    cells = grid[0] * grid[1]
    shared = {
        "date": np.repeat(made.dates.astype("datetime64[D]"), cells),
        "maturity": np.tile(np.repeat(made.maturities, grid[1]), days),
        made.facts["axis"]: np.tile(made.strikes, days * grid[0]),
        **{quantile_name(q): made.quantiles[i].ravel() for i, q in enumerate(LEVELS)},
    }
    metadata = {"farm": json.dumps(made.facts)}

    def table(first: int) -> pa.Table:
        some = made.samples[first : first + ROWS]
        columns: dict[str, Any] = {
            "sample": np.repeat(np.arange(first, first + len(some), dtype=np.int32), days * cells),
            **{name: np.tile(values, len(some)) for name, values in shared.items()},
            "iv": some.ravel(),
        }
        if made.returns is not None:
            columns["return"] = np.repeat(made.returns[first : first + ROWS].ravel(), cells)
        return pa.table(columns).replace_schema_metadata(metadata)

    schema = table(0).schema
    with atomically(path) as file, pq.ParquetWriter(file, schema) as writer:
        for first in range(0, samples, ROWS):
            writer.write_table(table(first))


def main() -> None:
    """Run the command line; a user's mistake ends in one line and exit code 2."""
    sys.exit(run_command(app, "python -m farm.generate"))


if __name__ == "__main__":
    main()
