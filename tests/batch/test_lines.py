import orjson
import pytest

from router.batch.lines import Done, parse_line, read_lines, scan
from router.contract.errors import ConfigError
from router.contract.ids import request_id


def line(custom_id, **more):
    return orjson.dumps({"custom_id": custom_id, "body": {"messages": []}, **more}) + b"\n"


def written(tmp_path, *lines):
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_a_line_is_keyed_by_its_session_else_by_its_request_id():
    assert parse_line(line("r-1", router={"session": "s"}), None, "").key == b"s"
    found = parse_line(line("r-1", router={"tenant": "acme"}), None, "")
    assert found.key == request_id("acme", "r-1").encode()
    assert found.half == int(request_id("acme", "r-1")[:16], 16)


def test_the_tenant_goes_where_the_line_names_none():
    assert orjson.loads(parse_line(line("r-1"), "acme", "").value)["router"]["tenant"] == "acme"
    own = line("r-1", router={"tenant": "globex"})
    assert orjson.loads(parse_line(own, "acme", "").value)["router"]["tenant"] == "globex"
    assert parse_line(own, None, "").value == own


def test_an_unusable_tenant_counts_as_the_default_as_it_does_for_the_router():
    assert parse_line(line("r-1", router={"tenant": 5}), None, "").key == request_id("default", "r-1").encode()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"{", "not JSON, at character 2: "),
        (b"[]", "a JSON object"),
        (b"{}", "custom_id"),
        (b'{"custom_id": 5}', "custom_id"),
        (b'{"custom_id": ""}', "custom_id"),
        (orjson.dumps({"custom_id": "x" * 257}), "custom_id"),
        (orjson.dumps({"custom_id": "x", "body": "y" * 1_100_000}), "bytes"),
    ],
)
def test_a_line_that_no_result_can_come_back_for_is_named(tmp_path, bad, said):
    with pytest.raises(ConfigError, match="line 2: ") as refused:
        scan(written(tmp_path, line("r-1"), bad + b"\n"), None)
    assert said in str(refused.value)


def test_two_lines_with_one_custom_id_are_named(tmp_path):
    with pytest.raises(ConfigError, match="requests 1 and 3 have the same custom_id: 'r-1'"):
        scan(written(tmp_path, line("r-1"), line("r-2"), line("r-1")), None)
    assert scan(written(tmp_path, line("r-1"), line("r-1", router={"tenant": "b"})), None).count == 2


def test_reading_goes_on_from_any_line_end(tmp_path):
    path = written(tmp_path, line("r-1"), b"\n", line("r-2"), line("r-3").rstrip(b"\n"))
    found = list(read_lines(path, None))
    assert [orjson.loads(one.value)["custom_id"] for _, one in found] == ["r-1", "r-2", "r-3"]
    assert found[-1][0] == path.stat().st_size
    for at, (end, _) in enumerate(found):
        assert [one for _, one in read_lines(path, None, end)] == [one for _, one in found[at + 1 :]]


def test_a_scan_is_named_by_content_and_tenant(tmp_path):
    path = written(tmp_path, line("r-1"))
    assert scan(path, None).digest != scan(path, "acme").digest


def test_each_line_is_done_once_and_strangers_never(tmp_path):
    scanned = scan(written(tmp_path, *(line(f"r-{number}") for number in range(100))), None)
    done = Done(scanned)
    halves = [int(half) for half in scanned.halves]
    assert [done.add(half) for half in halves] == [True] * 100
    assert not any(done.add(half) for half in halves)
    assert not done.add(5)
    assert done.count == 100
    assert done.has(halves[0])
