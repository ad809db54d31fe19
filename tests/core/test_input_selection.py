"""Markers and hidden files are no inputs; patterns choose among the others; all that is passed over is counted."""

from __future__ import annotations

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.input_selection import InputSelection, hidden_names, patterns
from airflow_sm_plugin.exceptions import InvalidRequest

NAMES = st.text("abc_.=-", min_size=1, max_size=6)
PLAIN = NAMES.filter(lambda name: name[0] not in "_.") | st.sampled_from([".", ".."])
HIDDEN = st.one_of(
    NAMES.map(".".__add__).filter(lambda name: name != ".."),
    NAMES.filter(lambda name: "=" not in name).map("_".__add__),
    st.sampled_from(["Thumbs.db", "DESKTOP.INI", "~$a.csv"]),
)


def chosen(*keys: str, prefix: str = "in/", **given: Any) -> list[str]:  # noqa: ANN401 - lists of patterns
    selection = InputSelection(prefix, **given)
    return [key for key in keys if selection.takes(key)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_SUCCESS", "_SUCCESS"),
        ("store=1/_SUCCESS", "_SUCCESS"),
        ("_committed_8035117403226443823", "_committed_*"),
        ("_started_8035117403226443823", "_started_*"),
        ("_delta_log/00000000000000000000.json", "_delta_log"),
        ("_delta_log/00000000000000000000.crc", "_delta_log"),
        ("_temporary/0/_temporary/attempt_1/part-0.csv", "_temporary"),
        ("_spark_metadata/0", "_spark_metadata"),
        ("_metadata", "_metadata"),
        ("_common_metadata", "_common_metadata"),
        ("_impala_insert_staging/x/a.csv", "_*"),
        ("_tmp.a.csv", "_*"),
        (".part-00000.csv.crc", "*.crc"),
        ("part-00000.csv.crc", "*.crc"),
        (".DS_Store", ".DS_Store"),
        ("day=1/.DS_Store", ".DS_Store"),
        ("._a.csv", "._*"),
        ("__MACOSX/a.csv", "_*"),
        (".hive-staging_hive_2026-01-01_1/-ext-10000/000000_0", ".*"),
        (".hoodie/hoodie.properties", ".*"),
        (".ipynb_checkpoints/a.csv", ".*"),
        ("a.csv._COPYING_", "*._COPYING_"),
        ("Thumbs.db", "thumbs.db"),
        ("THUMBS.DB", "thumbs.db"),
        ("ehthumbs.db", "ehthumbs.db"),
        ("Desktop.ini", "desktop.ini"),
        ("$RECYCLE.BIN/a.csv", "$recycle.bin"),
        ("System Volume Information/x", "system volume information"),
        ("a/~$report.csv", "~$*"),
        ("x/desktop.ini", "desktop.ini"),
        ("x/", "folder markers"),
        ("", "folder markers"),
        ("x_$folder$", "folder markers"),
    ],
)
def test_what_tools_leave_beside_data_is_no_input_and_is_counted_by_kind(name: str, kind: str) -> None:
    selection = InputSelection("in/")
    assert not selection.takes(f"in/{name}")
    assert selection.counts_in_words() == f"1 {kind}"


@pytest.mark.parametrize(
    "name",
    [
        "a.csv",
        "part-0000_1.csv",
        "a_b/c.d/e_",
        "x._y",
        "store=__HIVE_DEFAULT_PARTITION__/a.csv",
        "store=.5/a.csv",
        "_store=1/a.csv",
        "_a=1.csv",
        "000000_0",
        "crc",
        "a.crc/b.csv",
        "SUCCESS",
        "a_SUCCESS",
        "data_committed_1",
        "delta_log/0.json",
        "./a.csv",
        "d/../e.csv",
        "../a.csv",
        "d/./..",
        "a.csv.tmp",
        "a.csv~",
        "lost+found/x",
        "metadata/v1.metadata.json",
        "a.csv.metadata",
        "unload/manifest",
        "$recycled/a.csv",
    ],
)
def test_data_is_an_input_whatever_it_is_called(name: str) -> None:
    assert chosen(f"in/{name}") == [f"in/{name}"]


@given(st.lists(PLAIN, max_size=2), HIDDEN, st.lists(NAMES, max_size=2))
def test_one_hidden_name_anywhere_hides_the_object(above: list[str], hidden: str, below: list[str]) -> None:
    assert chosen("in/" + "/".join([*above, hidden, *below])) == []


@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_names_that_begin_otherwise_hide_nothing(names: list[str]) -> None:
    assert hidden_names("/".join(names)) == []


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("in/_SUCCESS", "in/_SUCCESS"),
        ("in/_raw/", "in/_raw/a.csv"),
        ("in/_raw", "in/_raw/a.csv"),
        ("in/_ra", "in/_raw/a.csv"),
        ("in/.", "in/.hidden/a.csv"),
        ("_top/in/", "_top/in/a.csv"),
        ("in/a.csv.crc", "in/a.csv.crc"),
        ("in/Thumbs", "in/Thumbs.db"),
        ("in/x_$folder$", "in/x_$folder$"),
    ],
)
def test_what_the_prefix_names_is_taken(prefix: str, key: str) -> None:
    assert chosen(key, prefix=prefix) == [key]


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("in/_raw/", "in/_raw/_SUCCESS"),
        ("in/_raw", "in/_raw/_SUCCESS"),
        ("in", "in/_SUCCESS"),
        ("in/pa", "in/part-0.csv.crc"),
        ("in/pa", "in/part/.DS_Store"),
        ("in/pa", "in/part_$folder$"),
        ("in/", "in/"),
        ("", "_SUCCESS"),
    ],
)
def test_what_lies_hidden_below_the_named_is_not(prefix: str, key: str) -> None:
    assert chosen(key, prefix=prefix) == []


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), ["a.csv", "b.json", "d=1/c.csv"]),
        (("*.csv",), (), ["a.csv", "d=1/c.csv"]),
        (("a.csv", "*.json"), (), ["a.csv", "b.json"]),
        (("d=[12]/*",), (), ["d=1/c.csv"]),
        (("d=[!1]/*",), (), []),
        (("?.csv",), (), ["a.csv"]),
        (("*.CSV",), (), []),
        ((), ("*.json",), ["a.csv", "d=1/c.csv"]),
        ((), ("d=*",), ["a.csv", "b.json"]),
        (("*.csv",), ("*/*",), ["a.csv"]),
        (("*",), ("*",), []),
    ],
)
def test_patterns_choose_by_the_relative_key(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    keys = ("a.csv", "b.json", "d=1/c.csv", "_SUCCESS", "d=1/.c.csv.crc", "d=1/")
    for prefix in ("in/", "in"):
        found = chosen(*(f"in/{key}" for key in keys), prefix=prefix, include=include, exclude=exclude)
        assert found == [f"in/{key}" for key in expected]


def test_patterns_match_what_follows_the_folder_that_a_prefix_ends_in() -> None:
    assert chosen("in/part-1.csv", "in/part-2.csv", prefix="in/part", include=["part-1*"]) == [
        "in/part-1.csv"
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("_raw/*", ["_raw/a.csv"]),
        ("_raw/_SUCCESS", ["_raw/_SUCCESS"]),
        ("*/_x/*", ["a/_x/b.csv"]),
        ("_*", ["_SUCCESS", "_raw/a.csv"]),
        ("_*/*", ["_raw/a.csv"]),
        ("_*/_*", ["_raw/_SUCCESS"]),
        ("[_]*", ["_SUCCESS", "_raw/a.csv"]),
        ("[_.]*", [".a.csv.crc", "_SUCCESS", "_raw/a.csv"]),
        ("*.crc", [".a.csv.crc", "b.crc"]),
        (".*", [".a.csv.crc"]),
        ("*", ["c.csv"]),
        ("*SUCCESS", []),
        ("[_]SUCCESS", ["_SUCCESS"]),
        ("[!a]SUCCESS", []),
        ("x/*", []),
    ],
)
def test_what_is_hidden_is_taken_only_where_a_pattern_names_it(pattern: str, expected: list[str]) -> None:
    keys = [".a.csv.crc", "_SUCCESS", "_raw/_SUCCESS", "_raw/a.csv", "a/_x/b.csv", "b.crc", "c.csv", "x/"]
    assert chosen(*keys, prefix="", include=[pattern]) == expected
    assert chosen(*keys, prefix="", include=[pattern], exclude=[pattern]) == []


def test_patterns_alone_decide_where_the_caller_says_so() -> None:
    assert InputSelection("").takes("_batch/x", even_hidden=True)
    assert not InputSelection("", include=["*.out"]).takes("_batch/x", even_hidden=True)


def test_all_that_is_passed_over_is_counted_the_most_frequent_first() -> None:
    selection = InputSelection("in/", include=["*.csv"], exclude=["b*"])
    keys = ["a.csv", "b.csv", "b2.csv", "b3.csv", "c.json", "d.json", "_SUCCESS", "x/"]
    assert [key for key in keys if selection.takes(f"in/{key}")] == ["a.csv"]
    assert selection.passed_over == 7
    assert selection.counts_in_words() == "3 excluded, 2 not included, 1 _SUCCESS, 1 folder markers"
    assert selection.idle_include == selection.idle_exclude == []


@given(
    st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), max_size=20), st.lists(NAMES, max_size=2)
)
def test_every_object_is_either_taken_or_counted(keys: list[str], exclude: list[str]) -> None:
    selection = InputSelection("", exclude=exclude)
    assert sum(selection.takes(key) for key in keys) + selection.passed_over == len(keys)


@given(
    st.lists(PLAIN, min_size=1, max_size=2).map("/".join),
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.lists(st.sampled_from(["*", "a*", "*.b", "_*", "*/a*"]), max_size=2),
)
def test_a_slash_behind_the_prefix_changes_no_choice(folder: str, below: str, include: list[str]) -> None:
    key = f"{folder}/{below}"
    assert chosen(key, prefix=folder, include=include) == chosen(key, prefix=f"{folder}/", include=include)


def test_no_objects_at_all_are_no_reason() -> None:
    assert InputSelection("in/").why_nothing() == ""


def test_where_nothing_is_left_counts_examples_and_patterns_are_named() -> None:
    selection = InputSelection("in/", include=["*.cvs", "*.csv"], exclude=["b*"])
    for number in range(9):
        selection.takes(f"in/b{number}.csv")
    selection.takes("in/_SUCCESS")
    assert selection.why_nothing() == (
        "; all 10 objects there are passed over (9 excluded, 1 _SUCCESS): 'in/b0.csv', 'in/b1.csv', 'in/b2.csv'; no "
        "object matches include '*.cvs'"
    )
    only = InputSelection("in/")
    only.takes("in/_SUCCESS")
    assert only.why_nothing() == "; the only object there is passed over (1 _SUCCESS): 'in/_SUCCESS'"


def test_an_exclude_pattern_of_what_is_hidden_anyway_is_not_idle() -> None:
    selection = InputSelection("", exclude=["_SUCCESS", "*.{crc,tmp}"])
    assert not selection.takes("_SUCCESS")
    assert (selection.idle_include, selection.idle_exclude) == (
        [],
        ["'*.{crc,tmp}' (braces are no alternatives: give a pattern for each)"],
    )


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("{a,b}.csv", "braces are no alternatives: give a pattern for each"),
        ("sub", "it matches this very key alone; all below a folder is 'sub/*'"),
        ("./*.csv", "keys relative to inputs begin with no './'"),
        ("!b.csv", "an exclamation mark negates only in brackets: give exclude instead"),
        (r".*\.csv$", "it is no regular expression: '*' is any characters, '?' one, '[*]' an asterisk"),
        (r"x\*.csv", "it is no regular expression: '*' is any characters, '?' one, '[*]' an asterisk"),
        ("in/*.csv", "it matches keys relative to inputs: leave 'in/' out"),
        ("*.CSV", ""),
    ],
)
def test_what_a_pattern_that_matches_nothing_may_have_been_meant_as(pattern: str, hint: str) -> None:
    selection = InputSelection("in/", include=[pattern])
    assert not selection.takes("in/sub/a.csv")
    assert selection.idle_include == [f"{pattern!r}" + (f" ({hint})" if hint else "")]
    assert f"no object matches include {selection.idle_include[0]}" in selection.why_nothing()


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        (
            "q/*.csv",
            """; S3 takes '*' in a prefix as it is: let inputs end in 'q/', and give include=["*.csv"]""",
        ),
        ("q/d=[12]/*.csv", """let inputs end in 'q/', and give include=["d=[12]/*.csv"]"""),
        ("a/b/**/", """let inputs end in 'a/b/', and give include=["**/*"]"""),
        (
            "?.csv",
            """S3 takes '?' in a prefix as it is: let inputs be the bucket, and give include=["?.csv"]""",
        ),
    ],
)
def test_a_pattern_for_a_prefix_is_reported(prefix: str, said: str) -> None:
    assert said in InputSelection(prefix).why_nothing()


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.csv", ["a.csv", "d/b.csv", "d/e/c.csv"]),
        ("d/**/*.csv", ["d/b.csv", "d/e/c.csv"]),
        ("d/**/e/**/c.csv", ["d/e/c.csv"]),
        ("**/e/*", ["d/e/c.csv"]),
        ("**/**/a.csv", ["a.csv"]),
        ("a**/b.csv", []),
        ("**", ["a.csv", "d/b.csv", "d/e/c.csv"]),
        ("*/*.csv", ["d/b.csv", "d/e/c.csv"]),
    ],
)
def test_two_asterisks_and_a_slash_match_no_folder_at_all_as_well(pattern: str, expected: list[str]) -> None:
    assert chosen("a.csv", "d/b.csv", "d/e/c.csv", prefix="", include=[pattern]) == expected


@given(st.text("ab/*?.[]!", min_size=1, max_size=8), st.text("ab/.", min_size=1, max_size=6))
def test_all_other_patterns_match_as_the_shell_s(pattern: str, key: str) -> None:
    if "**/" in pattern or key.endswith("/") or hidden_names(key):
        return
    assert (chosen(key, prefix="", include=[pattern]) == [key]) == fnmatch.fnmatchcase(key, pattern)


@pytest.mark.parametrize(
    ("listed", "expected", "kind"),
    [
        (["q1.csv", "q1.csv.metadata"], ["q1.csv"], "*.metadata"),
        (["q1.txt", "q1.txt-b", "q1.txt.metadata"], ["q1.txt", "q1.txt-b"], "*.metadata"),
        (
            ["u/0000_part_00", "u/0001_part_00", "u/manifest"],
            ["u/0000_part_00", "u/0001_part_00"],
            "*manifest",
        ),
        (["u_0000_part_00.gz", "u_manifest"], ["u_0000_part_00.gz"], "*manifest"),
        (["u000", "u001.parquet", "umanifest"], ["u000", "u001.parquet"], "*manifest"),
        (["000", "manifest"], ["000"], "*manifest"),
    ],
)
def test_what_athena_and_redshift_write_beside_data_is_no_input(
    listed: list[str], expected: list[str], kind: str
) -> None:
    for prefix in ("in/", "in/u", "in/q"):
        keys = [f"in/{name}" for name in listed if f"in/{name}".startswith(prefix)]
        selection = InputSelection(prefix)
        taken = [key for key in keys if selection.takes(key)]
        assert taken == [key for key in keys if key[3:] in expected]
        assert selection.counts_in_words() == (f"1 {kind}" if len(taken) < len(keys) else "")
    assert chosen(f"in/{listed[-1]}", prefix=f"in/{listed[-1]}") == [f"in/{listed[-1]}"]
    keys = [f"in/{name}" for name in listed]
    assert chosen(*keys, include=[kind]) == keys[-1:]
    assert chosen(*keys, include=["*"]) == [f"in/{name}" for name in expected]


@pytest.mark.parametrize(
    "listed",
    [
        ["manifest"],
        ["a.csv", "manifest"],
        ["u/manifest", "v/0000_part_00"],
        ["v/0000_part_00", "w/manifest"],
        ["u/0000_part_00", "u/x-manifest"],
        ["a.csv.metadata", "b.csv"],
        ["a", "a.metadata"],
        ["a.json", "a.json.metadata"],
        ["a.csv", "b.csv.metadata"],
        ["q.csv", "q.csv.metadata.csv"],
    ],
)
def test_such_names_are_data_where_no_such_data_stands_beside(listed: list[str]) -> None:
    keys = [f"in/{name}" for name in listed]
    assert chosen(*keys) == keys


@pytest.mark.parametrize(
    "given", [["*.csv", "b"], ("*.csv", "b"), '["*.csv", "b"]', "['*.csv', 'b']", " ('*.csv', 'b') "]
)
def test_patterns_are_a_list_or_its_text(given: object) -> None:
    assert patterns(given, "include") == ("*.csv", "b")


@pytest.mark.parametrize("given", [None, "", "None", " "])
def test_no_patterns_are_none(given: object) -> None:
    assert patterns(given, "include") == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "exclude is an empty list: leave it out"),
        ("[]", "exclude is an empty list: leave it out"),
        ("*.csv", r"exclude must be a list, .*: give \[\"\*\.csv\"\], not '\*\.csv'"),
        ("a, b", "exclude must be a list"),
        (
            ["sub/"],
            r"exclude\[0\] is 'sub/': a pattern matches whole keys, .*; all below a folder is 'sub/\*'",
        ),
        ({"a": 1}, "exclude must be a list"),
        (["a", ""], r"exclude\[1\] must be a pattern such as '\*\.csv', not empty"),
        ([None], r"exclude\[0\] must be a pattern such as '\*\.csv', not NoneType"),
        ([["a"]], r"exclude\[0\] must be a pattern .* not list"),
        (["s3://b/in/*.csv"], r"exclude\[0\] is 's3://b/in/\*\.csv': it must match keys relative to inputs"),
        (["/a.csv"], r"exclude\[0\] is '/a\.csv': it must match keys relative to inputs"),
        (["x" * 1_025], r"exclude\[0\] has 1025 characters; .* up to 1024"),
    ],
)
def test_what_can_be_no_pattern_is_refused_with_the_remedy(given: object, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        patterns(given, "exclude")
