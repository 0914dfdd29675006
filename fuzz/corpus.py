#!/usr/bin/env python3
"""Writes what the fuzz targets start from, out of samples/ and config/: fuzz/corpus/TARGET/sample-*."""

import gzip
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
BODY_BYTES_MAX = 6000


def write(target, name, content):
    path = CORPUS / target / f"sample-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def bodies():
    """Bodies by name: the odd ones, some events of each stream, the published batch."""
    found = {}
    for path in sorted((ROOT / "samples" / "odd-bodies").iterdir()):
        found[path.stem] = path.read_bytes()
    for path in sorted((ROOT / "samples" / "intermediaries").glob("*.json")):
        found[path.stem] = path.read_bytes()
    lines = (ROOT / "samples" / "currents.ndjson").read_bytes().splitlines()
    found["line"] = lines[0]
    found["lines"] = b"\n".join(lines[1:4])
    found["array"] = b"[" + b",".join(lines[4:7]) + b"]"
    batch = json.loads((ROOT / "samples" / "currents-batch.json").read_bytes())
    found["batch"] = json.dumps({"events": batch["events"][:3]}).encode()
    return {name: body for name, body in found.items() if len(body) <= BODY_BYTES_MAX}


def edges():
    """Values that stand at the edge of a rule, one event each."""
    times = ["18446744073709551615", "18446744073709551616", '"18446744073709551615"', '"00000000000000000009"', "-0"]
    times += ['"000000000000000000009"', '""', "1.0", "1e3", '{"long":5}', '{"int":5,"x":1}', '{"string":"7"}', "null"]
    texts = ['"[REDACTED]"', '""', "null", '{"string":"a"}', '{"string":"a","b":1}', "7", "-7", "7.5", '"\\u0061\\ud83d\\ude00"']
    head = '{"event_type":"users.messages.email.Send",'
    found = {f"time-{n}": head + f'"id":"1","time":{time}}}' for n, time in enumerate(times)}
    for n, text in enumerate(texts):
        found[f"id-{n}"] = head + f'"id":{text},"time":1}}'
        inner = f'"campaign_id":"x","campaign_api_id":{text},"properties":{{"campaign_id":{text},"canvas_id":{text}}}'
        found[f"field-{n}"] = head + f'"id":"1","time":1,{inner}}}'
    found["escaped-key"] = head + '"\\u0069d":"1","id":"2","events":[]}'
    found["deep"] = head + '"id":"1","x":' + "[" * 70 + "]" * 70 + "}"
    found["envelopes"] = '[{"events":[' + head + '"id":"1"}]},{"events":null},{"events":[{"events":[]}]},7]'
    found["mark"] = "\ufeff" + head + '"id":"1"}'
    return {name: body.encode() for name, body in found.items()}


def push_bodies():
    """A byte of choices, codings, a body: see fuzz_targets/push_body.rs."""
    some = bodies()
    for name, body in some.items():
        write("push_body", name, bytes([0x0A, 1, 0]) + body)
    envelope = some["batch"]
    for kind in range(9):
        for limit in range(4):
            write("push_body", f"coding-{kind}-{limit}", bytes([0x09 | limit << 4, kind]) + envelope)
        write("push_body", f"chain-{kind}", bytes([0x0F, kind, 1, 0]) + envelope)
    write("push_body", "wire", bytes([0x01, 1]) + gzip.compress(envelope, mtime=0))
    write("push_body", "bomb", bytes([0x01, 1]) + gzip.compress(b" " * 4_000_000, mtime=0))


def avro():
    """0 and a container; or a count, a schema, NUL and datums: see fuzz_targets/avro.rs."""
    for path in sorted((ROOT / "samples" / "storage-avro").rglob("*.avro")):
        write("avro", path.stem, b"\0" + path.read_bytes()[:BODY_BYTES_MAX])
    captured = (ROOT / "samples" / "intermediaries" / "event-hubs-capture.avro").read_bytes()
    write("avro", "event-hubs-capture", b"\0" + captured[:BODY_BYTES_MAX])
    small = b"Obj\x01" + bytes([2, 22]) + b"avro.schema" + bytes([20]) + b'{"type":1}'[:10] + bytes([0]) + b"#" * 16
    block = bytes([2, 2]) + b"1" + b"#" * 16
    write("avro", "two-containers", b"\0" + small + block + small.replace(b"#", b"+") + block.replace(b"#", b"+"))
    write("avro", "marker-damaged", b"\0" + small + block[:-1] + b"-" + block + small.replace(b"#", b"+"))
    text = bytes([2]) + b"1" + bytes([10])
    fields = [{"name": "id", "type": "string"}, {"name": "time", "type": "int"}]
    union = [{"name": "campaign_id", "type": ["null", "string"]}]
    nested = {"type": "record", "name": "P", "fields": [{"name": "campaign_name", "type": "string"}]}
    more = {
        "plain": (fields, text),
        "union": (fields + union, text + bytes([2, 2]) + b"c"),
        "properties": (fields + [{"name": "properties", "type": nested}], text + bytes([4]) + b"cn"),
        "map": (
            fields + [{"name": "properties", "type": {"type": "map", "values": "string"}}],
            text + bytes([2, 22]) + b"campaign_id" + bytes([2]) + b"c" + bytes([0]),
        ),
        "redacted": (
            fields + union + [{"name": "properties", "type": {"type": "map", "values": "string"}}],
            text + bytes([2, 20]) + b"[REDACTED]" + bytes([2, 22]) + b"campaign_id" + bytes([20]) + b"[REDACTED]" + bytes([0]),
        ),
        "type": (fields + [{"name": "event_type", "type": ["null", "string"]}], text + bytes([2, 2]) + b"x"),
        "text-time": (
            [{"name": "time", "type": "string"}, {"name": "id", "type": "long"}],
            bytes([40]) + b"18446744073709551615" + bytes([14]),
        ),
        "list": (fields + [{"name": "x", "type": {"type": "array", "items": "long"}}], text + bytes([4, 1, 2, 0])),
        "enum": (
            fields + [{"name": "canvas_name", "type": {"type": "enum", "name": "E", "symbols": ["a", "b"]}}],
            text + bytes([2]),
        ),
        "itself": (fields + [{"name": "next", "type": ["null", "Send"]}], text + bytes([2]) + text + bytes([0])),
    }
    for name, (members, datum) in more.items():
        schema = {"type": "record", "name": "Send", "namespace": "users.messages.email", "fields": members}
        schema = json.dumps(schema, separators=(",", ":")).encode()
        write("avro", name, bytes([1]) + schema + b"\0" + datum)
        write("avro", f"{name}-twice", bytes([2]) + schema + b"\0" + datum * 2)


def configurations():
    """The examples without comments; a slash would name files, which no input may."""
    for path in sorted((ROOT / "config").glob("*.toml")):
        text = re.sub(r"(?m)^\s*#.*\n|\s+#.*$", "", path.read_text()).replace("/", "-")
        write("configuration", path.stem, text.encode())
    key = '[connections.acme]\nsite = "EU1"\napi_key = "@"\n'
    variable = "#env BRAZE_DATADOG__CONNECTIONS__ACME__API_KEY=@\n[connections.acme]\n"
    misspelt = '[connections.acme]\ndry_run = true\napi_kye = "@"\nmetric = "@"\n[tags]\nstatic = ["@"]\n'
    for name, text in {"key": key, "variable": variable, "misspelt": misspelt}.items():
        write("configuration", name, text.encode())


def segments():
    """One damage of each kind to each file: see fuzz_targets/queue_segment.rs."""
    for kind in range(9):
        for file in range(4):
            write("queue_segment", f"{kind}-{file}", bytes([kind, file, 0x34, 0x02, 0x20, 1, 2, 3, 4, 5, 6, 7]))
            write("queue_segment", f"{kind}-{file}-head", bytes([kind, file, 8, 0, 1]))


def tags():
    """A field and two values."""
    values = ["Spring Sale", "spring_sale", "Ünï: 50%", "a::", "é" * 210, "1/2", "日本語", "😀", " x", "_"]
    for number, value in enumerate(values):
        other = values[(number + 1) % len(values)]
        write("tags", str(number), bytes([number % 8]) + f"{value}\0{other}".encode())


def dictionary(target, words):
    path = ROOT / "fuzz" / "dictionaries" / f"{target}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    escaped = (word.replace("\\", "\\\\").replace('"', '\\"') for word in words)
    path.write_text("".join(f'"{word}"\n' for word in escaped))


def dictionaries():
    names = "id time events event_type properties app_group_id app_group_name campaign_id campaign_name canvas_id "
    names += "canvas_name canvas_step_id canvas_step_name app_group_api_id campaign_api_id canvas_api_id string int long"
    names += " detail Message Records body Sns kinesis records payload data data_base64 message"
    keys = [f'"{name}":' for name in names.split()]
    values = ['"users.messages.email.Send"', '"[REDACTED]"', "null", "true", "1e5", "-0", '"00000000000000000009"', "18446744073709551615", '"\\u0041"', '"\\ud83d\\ude00"']
    dictionary("decode", keys + values + ['{"events":[', "]}", '":{"', '"},{"'])
    dictionary("push_body", keys + values + ['{"events":['])
    kinds = "null boolean int long float double bytes string record enum fixed array map".split()
    parts = [f'"{word}"' for word in kinds + ["type", "name", "namespace", "fields", "items", "values", "symbols", "Body"]]
    dictionary("avro", parts + ["[REDACTED]", "Obj", "avro.schema", "avro.codec", "deflate", "snappy", "zstandard", "users."])
    text = (ROOT / "config" / "braze-datadog.toml").read_text()
    words = sorted(set(re.findall(r"(?m)^#?\s?(\[[a-z._]+\]|[a-z_]+ =)", text)))
    dictionary("configuration", words + ['"@"', "#env BRAZE_DATADOG__", "__", "=@", '"10s"', '"4GiB"', "true", "[", "]"])


def main():
    for name, body in (bodies() | edges()).items():
        write("decode", name, body)
    push_bodies()
    avro()
    configurations()
    segments()
    tags()
    dictionaries()


main()
