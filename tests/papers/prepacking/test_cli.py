"""The commands, on tiny models saved to a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from paperworks.papers.prepacking import toy
from paperworks.papers.prepacking.cli import app
from paperworks.papers.prepacking.generate import generate
from paperworks.papers.prepacking.score import score

TEXTS = ["a pass", "one row keeps every prompt apart", "cache"]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    model = toy.decoder("llama")
    model.save_pretrained(folder)
    toy.tokenizer("plain").save_pretrained(folder)
    return folder


def test_plan_prints_every_packing_and_the_bound(tmp_path):
    (tmp_path / "lengths.txt").write_text("8\n4\n4\n2\n")
    result = run("plan", tmp_path / "lengths.txt")
    assert result.exit_code == 0
    assert result.output.count("lower bound 3") >= 4
    assert "flat: 1 rows" in run("plan", tmp_path / "lengths.txt", "--capacity", "flat").output
    (tmp_path / "bad.txt").write_text("eight")
    assert "one number of tokens a line" in str(run("plan", tmp_path / "bad.txt").exception)


def test_check_says_which_routes_work(saved):
    result = run("check", saved, "--seconds", "0.1")
    assert result.exit_code == 0, result.exception
    assert "flat    works" in result.output
    assert "microseconds" in result.output


def test_generate_goes_on_where_it_stopped(saved, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS))
    out = tmp_path / "out.jsonl"
    assert run("generate", saved, tmp_path / "in.txt", "--out", out, "--max-new-tokens", 4).exit_code == 0
    rows = {row["index"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert sorted(rows) == [0, 1, 2]
    tokenizer, model = toy.tokenizer("plain"), toy.decoder("llama")
    ids = generate(model, [tokenizer(TEXTS[1])["input_ids"]], max_new_tokens=4)[0]
    assert rows[1]["text"] == tokenizer.decode(ids[len(tokenizer(TEXTS[1])["input_ids"]) :], skip_special_tokens=True)
    out.write_text(json.dumps(rows[1]) + "\n")
    assert (
        "2 prompts continued, 1 were there"
        in run("generate", saved, tmp_path / "in.txt", "--out", out, "--max-new-tokens", 4).output
    )
    assert sorted(json.loads(line)["index"] for line in out.read_text().splitlines()) == [0, 1, 2]


def test_score_writes_log_likelihoods(saved, tmp_path):
    rows = [{"prompt": "one row", "continuation": " keeps"}, {"prompt": "one row", "continuation": " cache"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = run("score", saved, tmp_path / "in.jsonl", "--out", tmp_path / "out.npy")
    assert result.exit_code == 0, result.exception
    expected = score(
        toy.decoder("llama"),
        [row["prompt"] for row in rows],
        [row["continuation"] for row in rows],
        tokenizer=toy.tokenizer("plain"),
    )
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-5)
    (tmp_path / "bad.jsonl").write_text('{"text": "x"}')
    assert "no prompt and continuation" in str(
        run("score", saved, tmp_path / "bad.jsonl", "--out", tmp_path / "o.npy").exception
    )


def test_embed_writes_a_row_a_text(tmp_path):
    toy.encoder("bert").save_pretrained(tmp_path / "model")
    toy.tokenizer("bert").save_pretrained(tmp_path / "model")
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    result = run("embed", tmp_path / "model", tmp_path / "in.jsonl", "--out", tmp_path / "out.npy")
    assert result.exit_code == 0, result.exception
    assert np.load(tmp_path / "out.npy").shape[0] == 3
    assert "3 vectors" in result.output


def test_bench_times_the_routes(saved, tmp_path):
    (tmp_path / "in.txt").write_text("\n".join(TEXTS))
    result = run("bench", saved, tmp_path / "in.txt")
    assert result.exit_code == 0, result.exception
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert [line[0] for line in lines] == ["flat", "mask", "padded", "alone"]


def test_a_model_that_is_not_there_and_a_bad_file_are_said(saved, tmp_path):
    assert "cannot load" in str(run("check", tmp_path / "nothing").exception)
    (tmp_path / "in.jsonl").write_text("[1]")
    assert "not a JSON object" in str(run("bench", saved, tmp_path / "in.jsonl").exception)
    (tmp_path / "in.jsonl").write_text('{"body": "x"}')
    assert "no column 'text'" in str(run("bench", saved, tmp_path / "in.jsonl").exception)
