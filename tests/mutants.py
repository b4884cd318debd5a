"""Takes one guard after another out of a copy of the program and sees its test fail: `./dev mutants [NAME ...]`.

A guard that can go without a test noticing is not proven. Each test must pass on the program as it is first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNIT, INTEGRATION, FAULTS = "tests/unit", "tests/integration", "tests/faults"


@dataclass(frozen=True, slots=True)
class Mutant:
    """The program without one guard: `old` occurs once in `file` (below src/csv2kafka), `test` must fail without it."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "fence: read to the log's end instead of to our own marker",
        "takeover.py",
        "    if job.delivery == LEASE_ONLY:\n        still_s",
        "    if True:\n        still_s",
        f"{FAULTS}/test_transport_faults.py::test_a_dead_clients_request_comes_in_late",
    ),
    Mutant(
        "take-over: the producer id is not saved before the first row",
        "takeover.py",
        '    await job.keeper.save(checkpoint)\n    failpoints.reach("epoch_saved")',
        '    failpoints.reach("epoch_saved")',
        f"{FAULTS}/test_crashes.py::test_killed_at_a_step_of_the_first_take_over",
    ),
    Mutant(
        "take-over: the rows behind the checkpoint are not counted",
        "kafka/tail.py",
        "        rows += header.rows\n",
        "",
        f"{FAULTS}/test_crashes.py::test_killed_at_a_step_of_the_pipeline[batch_acked]",
    ),
    Mutant(
        "take-over: sequences need not chain",
        "kafka/tail.py",
        "        if header.base_sequence != expected:",
        "        if False:",
        f"{UNIT}/test_reconcile.py::test_what_this_job_cannot_have_written_is_refused",
    ),
    Mutant(
        "take-over: epochs may fall",
        "kafka/tail.py",
        '            raise _broken(header, f"epoch {header.producer_epoch} comes after epoch {mark.producer_epoch}")',
        "            pass",
        f"{UNIT}/test_reconcile.py::test_what_this_job_cannot_have_written_is_refused",
    ),
    Mutant(
        "take-over: the last batch is not compared with the file",
        "proof.py",
        "    if block.rows != last.rows or encoder.frame(block)[0] != recordbatch.decompress(\n"
        "        last.codec, memoryview(tail.last_records)\n"
        "    ):",
        "    if block.rows != last.rows:",
        f"{INTEGRATION}/test_delivery.py::test_another_files_rows_behind_the_checkpoint_are_refused",
    ),
    Mutant(
        "take-over: rows that a lane has already are sent again",
        "proof.py",
        "    return Proven(start, tuple(tail.rows for tail in tails))",
        "    return Proven(start, (0,) * len(tails))",
        f"{FAULTS}/test_lanes.py::test_killed_at_a_step_of_the_pipeline[batch_acked]",
    ),
    Mutant(
        "guard: cluster, topic id and partition are not the checkpoint's",
        "takeover.py",
        "        guards.same_topics(log, job.targets)\n",
        "",
        f"{INTEGRATION}/test_delivery.py::test_a_topic_made_again_and_filled_by_others_is_refused",
    ),
    Mutant(
        "guard: what lies before the checkpoint's offset is not looked at",
        "takeover.py",
        "            await guards.same_log(job.client, lane, target)\n",
        "            pass\n",
        f"{FAULTS}/test_store_faults.py::test_a_checkpoint_without_its_checksum",
    ),
    Mutant(
        "guard: metadata requests create the topic",
        "kafka/protocol.py",
        "for name in topics], False, False, False, _NO_TAGS))",
        "for name in topics], True, False, False, _NO_TAGS))",
        f"{INTEGRATION}/test_delivery.py::test_a_missing_topic_is_made_only_by_us_and_only_when_allowed",
    ),
    Mutant(
        "guard: an acknowledged offset may lie below the next expected one",
        "kafka/sender.py",
        "                if base_offset < self._next_offset:",
        "                if False:",
        f"{UNIT}/test_sender.py::test_an_offset_that_was_given_away_already_is_fatal",
    ),
    Mutant(
        "guard: the topic's id is not compared when its leader is looked up",
        "kafka/client.py",
        "        if view.topic_id != target.topic_id:",
        "        if False:",
        f"{FAULTS}/test_topic_faults.py::test_a_topic_made_again_and_filled_by_others_mid_run",
    ),
    Mutant(
        "guard: the topic is not looked at before the job is called complete",
        "pipeline.py",
        "                if finished:",
        "                if False:",
        f"{FAULTS}/test_topic_faults.py::test_a_topic_made_again_and_filled_by_others_mid_run",
    ),
    Mutant(
        "guard: a purge while writing is not seen",
        "kafka/sender.py",
        "        if self._own_offset is not None and log_start_offset > self._own_offset:",
        "        if False:",
        f"{FAULTS}/test_topic_faults.py::test_a_topic_purged_mid_run",
    ),
    Mutant(
        "guard: old bytes are sent again",
        "kafka/sender.py",
        "            if self._clock_s() - first_sent_s > RESEND_LIMIT_S:",
        "            if False:",
        f"{UNIT}/test_sender.py::test_old_bytes_are_not_sent_again",
    ),
    Mutant(
        "guard: records are stamped with this machine's clock",
        "kafka/sender.py",
        "        timestamp_ms = self._footing.timestamp_ms + int(elapsed_s * 1000)",
        "        timestamp_ms = int(__import__('time').time() * 1000)",
        f"{UNIT}/test_sender.py::test_times_are_the_markers_and_what_passed_since",
    ),
    Mutant(
        "guard: an epoch is used for ever",
        "kafka/sender.py",
        "        return age_s < RENEW_AFTER_S and self._next_sequence + batch.rows <= _MAX_SEQUENCE",
        "        return True",
        f"{UNIT}/test_sender.py::test_an_epoch_is_given_up_when_old_or_used_up",
    ),
    Mutant(
        "guard: take-overs without end",
        "pipeline.py",
        "                if self.progress.recoveries > MAX_RECOVERIES or in_vain > MAX_IN_VAIN:",
        "                if self.progress.recoveries > 100:",
        f"{INTEGRATION}/test_delivery.py::test_failures_that_no_take_over_cures_end_with_try_again",
    ),
    Mutant(
        "guard: epochs near their end are used",
        "kafka/guards.py",
        "    if producer.epoch >= EPOCH_LIMIT:",
        "    if False:",
        f"{INTEGRATION}/test_delivery.py::test_an_exhausted_epoch_is_refused",
    ),
    Mutant(
        "guard: a fenced instance does not ask whose the lease is",
        "pipeline.py",
        "                await self._keeper.confirm()\n                moved",
        "                moved",
        f"{INTEGRATION}/test_delivery.py::test_a_fenced_instance_asks_whose_the_lease_is_first",
    ),
    Mutant(
        "guard: sending goes on while the lease may be another's",
        "keeper.py",
        "        while self._clock_s() - self._answered_s >= FRESH_S:",
        "        while False:",
        f"{UNIT}/test_keeper.py::test_nobody_may_send_once_the_lease_may_be_anothers",
    ),
    Mutant(
        "guard: a lost checkpoint begins at row 1",
        "takeover.py",
        "        await _refuse_lost_checkpoint(job, producer)\n",
        "        pass\n",
        f"{INTEGRATION}/test_delivery.py::test_a_lost_checkpoint_is_refused_until_the_job_is_reset",
    ),
    Mutant(
        "guard: a new producer id is taken without a word",
        "kafka/guards.py",
        "    if log.producer_ids and producer.producer_id not in log.producer_ids and not accept_new:",
        "    if False:",
        f"{INTEGRATION}/test_delivery.py::test_an_exhausted_epoch_is_refused",
    ),
    Mutant(
        "guard: a compacted topic is taken",
        "kafka/topic.py",
        '    if "compact" in settings["cleanup.policy"]:',
        "    if False:",
        f"{INTEGRATION}/test_delivery.py::test_a_compacted_topic_is_refused",
    ),
    Mutant(
        "guard: nobody is told of a short retention",
        "kafka/topic.py",
        "    if 0 <= retention_ms < DAY_MS:",
        "    if False:",
        f"{FAULTS}/test_retention.py",
    ),
    Mutant(
        "guard: nobody is told of other writers",
        "kafka/tail.py",
        "            foreign += 0 if header.is_control else header.rows\n",
        "",
        f"{INTEGRATION}/test_delivery.py::test_other_producers_are_reported_and_left_alone",
    ),
    Mutant(
        "sender: batches behind a failed one are sent",
        "kafka/sender.py",
        "            if self._failure is not None:\n                raise self._failure\n",
        "",
        f"{UNIT}/test_sender.py::test_the_first_fatal_failure_stops_everything_behind_it",
    ),
    Mutant(
        "checkpoint: a save does not look whose the lease is (DynamoDB)",
        "checkpoints/dynamodb.py",
        '            Attr("lease_owner").eq(held.owner)\n'
        '            & Attr("lease_epoch").eq(held.epoch)\n'
        '            & Attr("ckpt_seq").eq(held.ckpt_seq),',
        '            Attr("job_id").exists(),',
        f"{UNIT}/test_checkpoint_contract.py",
    ),
    Mutant(
        "checkpoint: a save does not look whose the lease is (SQLite)",
        "checkpoints/sqlite.py",
        "        if not lease.owned_by(self._lease):",
        "        if False:",
        f"{UNIT}/test_checkpoint_contract.py",
    ),
    Mutant(
        "quarantine: bad rows that the topic has already are sent again",
        "encoder.py",
        "            rows = rows[known:]\n",
        "",
        f"{FAULTS}/test_quarantine_kills.py::test_killed_at_a_step",
    ),
    Mutant(
        "quarantine: what the log holds is taken for rows of the file that follow each other",
        "proof.py",
        "    if len(tails) == 1 and encoder.apart is None:",
        "    if len(tails) == 1:",
        f"{FAULTS}/test_quarantine_kills.py::test_killed_at_a_step",
    ),
    Mutant(
        "quarantine: a file is not cut back to the checkpoint",
        "quarantine_file.py",
        "                file.truncate(known.file_bytes)\n",
        "",
        f"{UNIT}/test_quarantine.py::TestFile",
    ),
    Mutant(
        "quarantine: a row behind a bad one gets that one's number",
        "encoder.py",
        "                plan.notes[FIRST_ROW] += 1",
        "                plan.notes[FIRST_ROW] += 0",
        f"{UNIT}/test_kernel_fuzz.py::TestAnyInput::test_the_campaign_s_first_cases",
    ),
    Mutant(
        "kernel: surrogates pass for UTF-8",
        "textkernel.py",
        "            high = 0x9F\n",
        "            high = 0xBF\n",
        f"{UNIT}/test_kernel_fuzz.py::TestUtf8::test_bad_sequence_anywhere",
    ),
    Mutant(
        "kernel: a column's name is written beyond the buffer",
        "csvkernel.py",
        "        if out + (prefix_end - prefix) > limit:",
        "        if False:",
        f"{UNIT}/test_kernel_bounds.py::TestCanaries::test_every_buffer_size_for_long_column_names",
    ),
    Mutant(
        "kernel: a key is written beyond its scratch memory",
        "recordkernel.py",
        "    if out + (end - start) > plan.key.size - 2 * WIDTH - 4 * plan.key_at.size:",
        "    if False:",
        f"{UNIT}/test_kernel_bounds.py::TestCanaries::test_every_buffer_size_for_keys_of_columns_that_are_dropped",
    ),
    Mutant(
        "ranges: a stray quote opens a field",
        "rangekernel.py",
        "                if here in (row_start, field_start) or (here > begin and src[here - 1] == delimiter):",
        "                if True:",
        f"{UNIT}/test_ranges.py::TestParts::test_a_stray_quote_is_text",
    ),
    Mutant(
        "ranges: they may come in any order",
        "ranges.py",
        "        if transition.start_byte != end_byte:",
        "        if False:",
        f"{UNIT}/test_ranges.py::TestParts::test_ranges_that_do_not_follow_each_other_are_refused",
    ),
    Mutant(
        "kernel: leading zeros pass for a number",
        "kindkernel.py",
        "    at = at + 1 if text[at] == _ZERO else _digits_end(text, at, end)",
        "    at = _digits_end(text, at, end)",
        f"{UNIT}/test_kinds.py::test_every_short_number",
    ),
)


def main() -> None:
    wanted = sys.argv[1:]
    mutants = [mutant for mutant in MUTANTS if not wanted or any(word in mutant.name for word in wanted)]
    tests = sorted({mutant.test for mutant in mutants})
    if run(ROOT / "src", *tests) != 0:
        sys.exit("these tests must pass before anything is taken out")
    survivors = [mutant.name for mutant in mutants if not is_noticed(mutant)]
    for name in survivors:
        print(f"NOT NOTICED: {name}")
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} guards: a test fails when they are taken out")
    sys.exit(1 if survivors else 0)


def is_noticed(mutant: Mutant) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source)  # compiled kernels and all
        path = source / "csv2kafka" / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.name}: {mutant.old!r} is {text.count(mutant.old)} times in {mutant.file}")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        if mutant.file.endswith("kernel.py"):  # compiled into others, which would not be compiled anew
            for compiled in (source / "csv2kafka" / "__pycache__").glob("*.nb[ic]"):
                compiled.unlink()
        failed = run(source, mutant.test) == 1  # 1: tests failed; others: pytest itself could not work
    print(f"{'noticed' if failed else 'NOT NOTICED'}: {mutant.name}", flush=True)
    return failed


def run(source: Path, *tests: str) -> int:
    """Exit code of pytest with the program in `source`; its output only where it is neither passed nor failed."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(source)}, capture_output=True, text=True, check=False
    )
    if done.returncode > 1:
        sys.exit(done.stdout + done.stderr)
    return done.returncode


if __name__ == "__main__":
    main()
