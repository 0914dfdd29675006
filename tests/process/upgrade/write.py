#!/usr/bin/env python3
"""Writes what a version leaves behind when it is killed, for tests/process/upgrade.rs: tests/process/upgrade/VERSION-format-N-imports-M,
with the formats of the queue and of `imports.json`.

    tests/process/upgrade/write.py BINARY [VERSION]

The binary imports a file to its end. Then it is pushed batches that an intake accepts, and batches whose requests the
intake leaves without an answer, and is killed. Kept are its queue directory, the file, and the truth: which sends are
still to be counted. VERSION is what the binary says of itself, unless it is given.
"""

import http.server
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
# The memory of imports holds the path of a file: one that tells nothing of the machine.
IMPORT = pathlib.Path("/tmp/braze-datadog-upgrade/import.ndjson")
PATIENCE_SECONDS = 60
EVENTS_A_BATCH = 4


class Intake(http.server.BaseHTTPRequestHandler):
    """Accepts, or never answers."""

    hangs = False
    hanging = threading.Event()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if Intake.hangs:
            Intake.hanging.set()
            time.sleep(10 * PATIENCE_SECONDS)
            return
        self.send_response(202)
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')

    def log_message(self, *_):
        pass


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return "127.0.0.1:{}".format(listener.getsockname()[1])


def event(mark, number):
    # Slashes, escapes and text beyond ASCII are what a format may stumble over.
    return {
        "id": f"{mark}-{number}",
        "event_type": "users.messages.email.Send",
        "time": int(time.time()),
        "user": {"user_id": f"person-{number}", "external_user_id": None},
        "properties": {
            "app_group_id": "group-a",
            "campaign_id": mark,
            "campaign_name": f'Été "{mark}" / \\ 日本語 😀',
            "message_extras": '{"a":"b"}',
        },
    }


def eventually(what, ready):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        if time.monotonic() > give_up:
            sys.exit(f"waited in vain: {what}")
        time.sleep(0.05)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def push(address, mark, query=""):
    body = json.dumps({"events": [event(mark, number) for number in range(EVENTS_A_BATCH)]}).encode()
    request = urllib.request.Request(f"http://{address}/v1/events{query}", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        accepted = json.load(answer)["accepted"]
    if accepted != EVENTS_A_BATCH:
        sys.exit(f"{accepted} events were accepted")


def run(binary, configuration, *arguments):
    command = [binary, "run", "--config", configuration, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]})


def import_file(binary, configuration):
    shutil.rmtree(IMPORT.parent, ignore_errors=True)
    IMPORT.parent.mkdir()
    lines = [json.dumps(event("imported", number), ensure_ascii=False) + "\n" for number in range(EVENTS_A_BATCH)]
    IMPORT.write_text("".join(lines))
    if run(binary, configuration, "--once", "--import", str(IMPORT)).wait(PATIENCE_SECONDS) != 0:
        sys.exit("the import failed")


def push_and_kill(binary, configuration, push_address, admin_address):
    """Returns the marks of the batches that are still to be counted."""
    process = run(binary, configuration)
    eventually("the binary is ready", lambda: get(f"http://{admin_address}/readyz"))
    for mark in ["settled-1", "settled-2", "settled-3"]:
        push(push_address, mark)
    metrics = f"http://{admin_address}/metrics"
    settled = "\nbraze_datadog_sends_pending 0\n"
    eventually("settled", lambda: f'sends_accepted_total{{connection="acme"}} {3 * EVENTS_A_BATCH}' in get(metrics))
    eventually("nothing is pending", lambda: settled in get(metrics))
    eventually("acknowledged", lambda: "\nbraze_datadog_queue_depth 0\n" in get(metrics))
    Intake.hangs = True
    waiting = [f"waiting-{number}" for number in range(5)]
    push(push_address, waiting[0])
    eventually("a request hangs", Intake.hanging.is_set)
    for mark in waiting[1:]:
        push(push_address, mark, "?app_group_name=Acme+%C3%9C")
    process.kill()
    process.wait()
    return waiting


def main():
    # The configuration holds a key.
    os.umask(0o077)
    binary = sys.argv[1]
    said = subprocess.run([binary, "--version"], capture_output=True, check=True, text=True).stdout.split()[1]
    version = sys.argv[2] if len(sys.argv) > 2 else said
    intake = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Intake)
    threading.Thread(target=intake.serve_forever, daemon=True).start()
    push_address, admin_address = free_address(), free_address()
    with tempfile.TemporaryDirectory() as home:
        queue = pathlib.Path(home) / "queue"
        configuration = pathlib.Path(home) / "braze-datadog.toml"
        configuration.write_text(
            f'[queue.embedded]\ndirectory = "{queue}"\n[push]\nlisten = "{push_address}"\n'
            f'[history]\ndirectory = ""\n'
            f'[admin]\nlisten = "{admin_address}"\n[flush]\ninterval = "1s"\ntimeout = "60s"\n'
            f'[connections.acme]\nurl = "http://127.0.0.1:{intake.server_port}"\napi_key = "{"0" * 32}"\n'
        )
        import_file(binary, str(configuration))
        waiting = push_and_kill(binary, str(configuration), push_address, admin_address)
        head = sorted(queue.glob("*.log"))[0].read_bytes()[:12]
        format_number = struct.unpack("<I", head[8:])[0]
        imports = json.loads((queue / "imports.json").read_text())["version"]
        sample = HERE / f"{version}-format-{format_number}-imports-{imports}"
        shutil.rmtree(sample, ignore_errors=True)
        shutil.copytree(queue, sample / "queue", ignore=shutil.ignore_patterns("lock"))
        shutil.copy(IMPORT, sample / "import.ndjson")
        truth = {"imported": str(IMPORT), "waiting": {mark: EVENTS_A_BATCH for mark in waiting}}
        (sample / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")
    shutil.rmtree(IMPORT.parent)
    print(f"wrote {sample}")


main()
