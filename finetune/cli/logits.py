"""`arena-judge finetune logits`: what teachers say of battles, kept for their students."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options, outputs
from judge.cli.console import Progress, count, say, table
from judge.cli.ray_options import check_devices, ray_options

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from finetune.folds.table import Folds
    from finetune.logits.table import Logits
    from judge.distributed.cluster import Cluster
    from judge.judges.classifier_settings import ClassifierSettings

UNJUDGED_EXIT = 3
_RUNNING = ("device", "dtype", "quantize", "batch_tokens", "share_prompt", "attention")


def _numbers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...]:
    if value is None:
        return ()
    words = [word.strip() for word in value.split(",")]
    if not all(word.isascii() and word.isdigit() and 0 < len(word) < 9 for word in words):
        raise click.BadParameter("lengths are numbers of tokens, such as 512,1024")
    return tuple(map(int, words))


@click.command()
@click.argument("battles", required=False)
@click.option(
    "--judge", metavar="JUDGE", help="The teacher: any judge, or a folder of judges of folds."
)
@click.option("--folds", "folds_folder", metavar="FOLDER", help="Which battles are held out where.")
@click.option(
    "--in-fold", is_flag=True, help="Let judges speak of battles that they have learned from."
)
@click.option("--keep-orders", is_flag=True, help="A row for each order, and not their mean.")
@click.option(
    "--shards", type=click.IntRange(1, 100_000), default=1, help="Share the work: how many shards."
)
@click.option("--shard-id", type=click.IntRange(0), metavar="N", help="Which one, from 0.")
@click.option(
    "--stride/--range",
    default=False,
    help="Whether a shard has every so many'th block of battles, or neighbours.  [default: range]",
)
@click.option(
    "--part-battles",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Battles of a block: what is lost at most when a run is killed.  [default: 256, or a "
    "thirty-second of the file where that is less]",
)
@click.option(
    "--lengths",
    callback=_numbers,
    metavar="N[,N...]",
    help="Tokens that a fine-tuned judge reads at most; several are averaged.  [default: as it was "
    "trained]",
)
@click.option("--max-length", type=click.IntRange(1, 1 << 24), metavar="N", help="The same, one.")
@click.option(
    "--pad-to-multiple",
    "pad",
    type=click.IntRange(1, 4096),
    default=1,
    metavar="N",
    help="Fill what a fine-tuned judge works through at once up to a multiple of N tokens.",
)
@click.option("--batch-tokens", type=click.IntRange(1, 1 << 32), metavar="N", help="Tokens a pass.")
@click.option("--device", multiple=True, metavar="DEVICE", help="cpu, cuda:0, ...; several share.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]))
@click.option("--quantize", type=click.Choice(["8bit", "4bit"]), help="Through bitsandbytes.")
@click.option(
    "--share-prompt/--no-share-prompt",
    default=None,
    help="Work what both orders begin with through once, in causal models.  [default: where it "
    "pays]",
)
@click.option("--attention", type=click.Choice(["auto", "packed", "padded"]))
@click.option("--name", metavar="NAME", help="What the teacher is called.  [default: its folder]")
@click.option("--from-npy", metavar="FILE", help="Take an [N, 3] array, and ask no judge.")
@click.option("--npy", metavar="FILE", help="Write an [N, 3] array too, in the order of BATTLES.")
@click.option("--merge", metavar="GLOB", help="Make one table of all shards, and ask no judge.")
@click.option("-o", "--output", required=True, metavar="FILE.parquet", help="The table.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="For judges that draw."
)
@click.option("--fresh", is_flag=True, help="Leave what an unfinished run has done.")
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@ray_options
def logits(
    battles: str | None,
    judge: str | None,
    folds_folder: str | None,
    from_npy: str | None,
    npy: str | None,
    merge: str | None,
    output: str,
    shards: int,
    shard_id: int | None,
    fresh: bool,
    force: bool,
    as_json: bool,
    cluster: Cluster | None,
    **values: Any,
) -> None:
    """Keep what a teacher says of BATTLES, as logits.

    With a folder of judges of folds (see `teach`) and --folds each battle is judged by the judge
    that has not learned from it; battles in no fold, such as extras, by the mean of all. A judge
    that has learned from these battles, and judges of folds without --folds, are refused, unless
    --in-fold says that it may be: then each battle is judged by the mean of the judges that did
    learn from it, as the first place did.

    Both orders are averaged, as logarithms, and so are several judges and lengths; a fine-tuned
    causal judge works through what both orders begin with once. Every few hundred battles what is
    done is kept in OUTPUT.parts, and the same command goes on from there.

    \b
    Example:
      arena-judge finetune logits train.csv --judge teachers/bert --folds folds -o t/bert.parquet
      arena-judge finetune logits train.csv --judge statistical -o t/statistical.parquet
      arena-judge finetune logits train.csv --judge teachers/llama --folds folds \\
          --max-length 3072 --shards 5 --shard-id 0 -o t/llama-0.parquet
      arena-judge finetune logits train.parquet --judge teachers/llama --on ray -o t/llama.parquet
      arena-judge finetune logits --merge 't/llama-*.parquet' -o t/llama.parquet
      arena-judge finetune logits train.csv --from-npy qwen.npy -o t/qwen.parquet
    """
    if sum(one is not None for one in (judge, from_npy, merge)) != 1:
        raise click.UsageError("give one of --judge, --from-npy and --merge")
    if merge is None and battles is None:
        raise click.UsageError("name a file of BATTLES")
    if cluster is not None and judge is None:
        raise click.UsageError("--on ray is for --judge")
    if cluster is not None:
        check_devices(values["device"])
    if (shard_id is None) != (shards == 1):
        raise click.UsageError("--shards and --shard-id go together")
    if shard_id is not None and shard_id >= shards:
        raise click.UsageError(f"--shard-id is from 0 to {shards - 1}")
    if npy is not None and (shards > 1 or (merge is not None and battles is None)):
        raise click.UsageError("--npy wants all BATTLES; with --merge, name their file too")
    inputs = [one for one in (battles, from_npy) if one is not None]
    pieces = [] if merge is None else sorted(glob.glob(merge))
    target = _target(output, [*inputs, *pieces], force)
    array = None if npy is None else _array_target(npy, [*inputs, output], force)
    if merge is not None:
        made = _merged(merge, pieces)
        read = None if battles is None else _read(battles)
    else:
        read = _read(str(battles))
        folds = _folds(folds_folder)
        if from_npy is not None:
            made = _from_array(from_npy, read, str(battles), values["name"])
        else:
            request = _request(str(judge), shards, shard_id, values)
            made = _judged(request, read, str(battles), folds, target, fresh, cluster)
    _write(target, made)
    if array is not None and read is not None:
        from finetune.logits.arrays import write_npy
        from finetune.logits.table import aligned

        write_npy(array, aligned(made, read, battles))
        say(f"{npy}: written")
    unjudged = _tell(made, read, output, as_json)
    if unjudged:
        click.get_current_context().exit(UNJUDGED_EXIT)


def _target(name: str, inputs: list[str], force: bool) -> Path:
    from finetune.logits.table import COLUMNS

    if Path(name).suffix.lower() != ".parquet":
        raise click.UsageError("-o is the name of a .parquet file")
    return outputs.target(name, COLUMNS, inputs=inputs, force=force)


def _array_target(name: str, inputs: list[str], force: bool) -> Path:
    from judge.errors import InputError

    path = Path(name)
    if path.suffix.lower() != ".npy":
        raise click.UsageError("--npy is the name of a .npy file")
    earlier = path.is_file() and path.open("rb").read(6) == b"\x93NUMPY"
    target = outputs.target(name, ("",), inputs=inputs, force=force or earlier)
    if target.is_file() and not earlier and not force:
        raise InputError("is there already", file=name, mend="add --force")
    return target


def _read(battles: str) -> pd.DataFrame:
    from judge.battles import read_battles

    return read_battles(battles)


def _folds(folder: str | None) -> Folds | None:
    from finetune.folds.table import read_folds

    return None if folder is None else read_folds(folder)


def _request(judge: str, shards: int, shard_id: int | None, values: dict[str, Any]) -> Any:
    from finetune.logits.inferring import Shard
    from finetune.logits.making import Request

    return Request(
        judge,
        values["name"],
        values["in_fold"],
        values["keep_orders"],
        Shard(shard_id or 0, shards, values["stride"]),
        values["part_battles"],
        values["pad"],
        values["seed"],
        _running(values),
    )


def _running(values: dict[str, Any]) -> ClassifierSettings:
    from judge.judges.classifier_settings import ClassifierSettings

    said = {name: values[name] for name in _RUNNING if values[name] not in (None, ())}
    lengths = values["lengths"]
    if values["max_length"] is not None:
        if lengths:
            raise click.UsageError("give either --lengths or --max-length")
        lengths = (values["max_length"],)
    if lengths:
        said["lengths"] = lengths
    return ClassifierSettings(**said, said=frozenset(said))


def _judged(
    request: Any,
    battles: pd.DataFrame,
    file: str,
    folds: Folds | None,
    target: Path,
    fresh: bool,
    cluster: Cluster | None,
) -> Logits:
    from contextlib import ExitStack

    from finetune.logits.making import make_logits

    def watch(work: int) -> Callable[[int], None]:
        return stack.enter_context(Progress("battles", work)).advance

    with ExitStack() as stack:
        if cluster is not None:
            from judge.distributed.cluster import joined

            stack.enter_context(joined(cluster))
        return make_logits(
            request,
            battles,
            target,
            file=file,
            folds=folds,
            fresh=fresh,
            watch=watch,
            cluster=cluster,
        )


def _merged(pattern: str, pieces: list[str]) -> Logits:
    from finetune.logits.making import merge_logits
    from finetune.logits.table import read_logits
    from judge.errors import InputError

    if not pieces:
        raise InputError("there is no such file", file=pattern, mend="quote the pattern")
    return merge_logits([read_logits(one) for one in pieces])


def _from_array(file: str, battles: pd.DataFrame, source: str, name: str | None) -> Logits:
    from finetune.logits.arrays import read_npy
    from finetune.logits.making import check_once

    check_once(battles, source)
    about = {"judge": name or Path(file).stem, "from": Path(file).name, "battles": len(battles)}
    return read_npy(file, battles, teacher=name, about=about)


def _write(target: Path, made: Logits) -> None:
    import shutil

    from finetune.logits.making import parts_of
    from finetune.logits.table import write_logits

    write_logits(target, made)
    shutil.rmtree(parts_of(target), ignore_errors=True)


def _tell(made: Logits, battles: pd.DataFrame | None, output: str, as_json: bool) -> int:
    """Says what was made; how many battles are unjudged."""
    import numpy as np

    from finetune.logits.table import mean_over_orders

    whole = mean_over_orders(made)
    lost = np.isnan(whole.values).any(axis=1)
    folds = sorted(set(whole.folds.tolist()))
    found = []
    losses = _losses(whole, battles)
    for fold in folds:
        own = whole.folds == fold
        loss = losses[own & ~np.isnan(losses)]
        found.append(
            {
                "fold": fold,
                "battles": int(own.sum()),
                "unjudged": int((own & lost).sum()),
                "labelled": len(loss),
                "log_loss": float(loss.mean()) if len(loss) else None,
            }
        )
    if as_json:
        said = {"output": output, "teacher": made.teacher, "rows": len(made), "folds": found}
        click.echo(json.dumps(said | {"about": dict(made.about)}, ensure_ascii=False))
    else:
        rows = [
            [
                "-" if one["fold"] < 0 else str(one["fold"]),
                f"{one['battles']:,}",
                f"{one['unjudged']:,}",
                f"{one['labelled']:,}",
                "-" if one["log_loss"] is None else f"{one['log_loss']:.4f}",
            ]
            for one in found
        ]
        head = ["judge of fold", "battles", "unjudged", "labelled", "log loss"]
        for line in table(head, rows):
            click.echo(line)
    gone = f", {int(lost.sum()):,} of them unjudged" if lost.any() else ""
    way = ", in fold" if made.about.get("in_fold") else ""
    say(f"{output}: written; {made.teacher} on {count(len(whole), 'battle')}{gone}{way}")
    return int(lost.sum())


def _losses(whole: Logits, battles: pd.DataFrame | None) -> Any:
    """(R,) the log loss of each row; NaN where it has no label or was not judged."""
    import numpy as np

    from finetune.logits.table import aligned, probabilities
    from judge.battles import labels
    from judge.metrics import log_loss_rows

    found = np.full(len(whole), np.nan)
    said = None if battles is None else labels(battles)
    if battles is None or said is None:
        return found
    proba = probabilities(aligned(whole, battles, strict=True))
    use = ~np.isnan(proba).any(axis=1) & ~np.isnan(said).any(axis=1)
    loss = np.full(len(battles), np.nan)
    loss[use] = log_loss_rows(said[use], proba[use])
    by_id = dict(zip(battles["id"].tolist(), loss.tolist(), strict=True))
    return np.array([by_id.get(name, np.nan) for name in whole.ids], dtype=np.float64)
