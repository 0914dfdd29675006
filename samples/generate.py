#!/usr/bin/env python3
"""Writes the sample events of this directory, and the truth about them.

    python3 samples/generate.py           writes everything anew
    python3 samples/generate.py --check   compares; exit 1 and the names of the files that differ

Plain Python 3, no packages. The output depends on nothing but this file: the only source of chance is
`random.Random(SEED).random()`, which Python promises to keep the same over its versions. Companies,
campaigns and people are invented; e-mail addresses are at example.com, telephone numbers in the range
555-0100 to 555-0199, which is kept for fiction.
"""

import base64
import copy
import gzip
import hashlib
import json
import random
import sys
import zlib
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
SEED = 20261120
START = 1_795_168_800  # 2026-11-20 10:00:00 UTC

SEND_TYPES = {  # the eight that are counted by default, and how often each occurs here
    "users.messages.email.Send": 44,
    "users.messages.pushnotification.Send": 26,
    "users.messages.sms.Send": 8,
    "users.messages.webhook.Send": 5,
    "users.messages.whatsapp.Send": 5,
    "users.messages.contentcard.Send": 6,
    "users.messages.rcs.Send": 3,
    "users.messages.line.Send": 3,
}
OTHER_TYPES = {  # none of them is counted by default
    "users.messages.email.Delivery": 20,
    "users.messages.email.Open": 24,
    "users.messages.email.Click": 9,
    "users.messages.email.Bounce": 2,
    "users.messages.email.Retry": 2,
    "users.messages.email.Abort": 1,
    "users.messages.pushnotification.Open": 8,
    "users.messages.pushnotification.Retry": 2,
    "users.messages.sms.CarrierSend": 5,
    "users.messages.sms.Delivery": 5,
    "users.messages.sms.InboundReceive": 1,
    "users.messages.sms.Retry": 1,
    "users.messages.whatsapp.Read": 2,
    "users.messages.webhook.Retry": 1,
    "users.messages.liveactivity.Send": 2,
    "users.canvas.costep.Send": 2,
    "users.canvas.Entry": 4,
    "users.campaigns.EnrollInControl": 1,
    "users.behaviors.app.SessionStart": 4,
    "users.messages.hologram.Send": 1,  # a type that nobody has heard of yet
}

EMEA = "0d6c8a4e-3f5b-4f6e-9d39-6f1f1b7c2a10"
US = "5f8d04e7c1a2b3d4e5f60718"  # 24 hexadecimal digits, as older workspaces have
TRAVEL = "C7A1F2D0-88B4-4E35-A0B1-2D9E5C4F7A66"  # upper case
PAY = "9b2e7f14-6a0d-4c58-8e43-71d5a2c06fb8"
APP_GROUPS = {EMEA: 40, US: 25, TRAVEL: 20, PAY: 11, None: 4}  # None: a connector from before October 2024

LONG_NAME = "Loyalty tier review: " + "please do not edit this campaign without asking the CRM team first, " * 4

# app group, campaign id, names in the order in which they come to be known, weight
CAMPAIGNS = [
    (EMEA, "a1f7c0de-1111-4a5b-8c6d-0e1f2a3b4c5d", ["Weekly Newsletter"], 30),
    (EMEA, "b2e8d1ef-2222-4b6c-9d7e-1f2a3b4c5d6e", ['Summer Sale, 20% off: "last call"'], 10),
    (EMEA, "c3d9e2f0-3333-4c7d-8e8f-2a3b4c5d6e7f", ["Bienvenue à bord – étape 1"], 6),
    (EMEA, "d4cae301-4444-4d8e-9f90-3b4c5d6e7f80", [None, "Black Friday 🛍️ Early Access"], 14),
    (US, "60c72b2f9b1d8e4a3c5f7a19", ["Weekly Newsletter"], 20),  # names are not unique
    (US, "60c72b2f9b1d8e4a3c5f7a20", ["Cart | reminder | 2h"], 8),
    (US, "60c72b2f9b1d8e4a3c5f7a21-api", ["password_reset"], 9),
    (US, "60c72b2f9b1d8e4a3c5f7a22", ["🔥🔥🔥"], 3),  # becomes empty once Datadog has normalised it
    (TRAVEL, "E5DBF412-5555-4E9F-8001-4C5D6E7F8091", ["出発前のお知らせ", "出発前のお知らせ(改)"], 9),
    (TRAVEL, "F6EC0523-6666-4FA0-9112-5D6E7F8091A2", ["价格提醒,机票直降"], 6),
    (PAY, "07fd1634-7777-40b1-8223-6e7f8091a2b3", [LONG_NAME], 4),
    (PAY, "180e2745-8888-41c2-9334-7f8091a2b3c4", ["[REDACTED]"], 3),
    (PAY, "291f3856-9999-42d3-8445-8091a2b3c4d5-filler-events", ["Statement ready\\ready to read: "], 4),
]

# app group, canvas id, names, steps as (step id, names), weight
CANVASES = [
    (EMEA, "3a204967-aaaa-43e4-9556-91a2b3c4d5e6", ["Onboarding"], [
        ("4b315a78-0001-44f5-8667-a2b3c4d5e6f7", ["Day 0: welcome"]),
        ("4b315a78-0002-44f5-8667-a2b3c4d5e6f7", ["Day 3: \"did you know?\""]),
        ("4b315a78-0003-44f5-8667-a2b3c4d5e6f7", [None, "Day 7: nudge ✨"]),
    ], 16),
    (US, "5c426b89-bbbb-4506-9778-b3c4d5e6f708", ["Win-back, 90 days", "Win-back, 60 days"], [
        ("6d537c9a-0001-4617-8889-c4d5e6f70819", ["E-mail 1"]),
        ("6d537c9a-0002-4617-8889-c4d5e6f70819", ["SMS if not opened"]),
    ], 8),
    (TRAVEL, "7E648DAB-CCCC-4728-999A-D5E6F708192A", ["여행 후 설문"], [
        ("8F759EBC-0001-4839-8AAB-E6F708192A3B", ["설문 1/2"]),
        ("8F759EBC-0002-4839-8AAB-E6F708192A3B", ["설문 2/2"]),
        ("8F759EBC-0003-4839-8AAB-E6F708192A3B", ["Danke!"]),
        ("8F759EBC-0004-4839-8AAB-E6F708192A3B", [""]),
    ], 7),
]

TIMEZONES = ["Europe/Berlin", "Europe/Paris", "America/New_York", "Asia/Tokyo", "Australia/Sydney"]
TAG_FIELDS = ["app_group_id", "campaign_id", "campaign_name"]
TAG_FIELDS += ["canvas_id", "canvas_name", "canvas_step_id", "canvas_step_name"]


class Chance:
    """Everything that is drawn, from one seeded source."""

    def __init__(self, seed):
        self.source = random.Random(seed)

    def below(self, limit):
        return int(self.source.random() * limit)

    def happens(self, percent):
        return self.source.random() * 100 < percent

    def pick(self, items):
        return items[self.below(len(items))]

    def weighted(self, pairs):
        at = self.source.random() * sum(weight for _, weight in pairs)
        for item, weight in pairs:
            at -= weight
            if at < 0:
                return item
        return pairs[-1][0]

    def hexadecimal(self, digits):
        return "".join("0123456789abcdef"[self.below(16)] for _ in range(digits))

    def uuid(self):
        h = self.hexadecimal(32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{'89ab'[self.below(4)]}{h[17:20]}-{h[20:]}"


def known_name(names, progress):
    """The name at this point of the stream (0 to 1): names are added and changed while it runs."""
    return names[min(int(progress * len(names)), len(names) - 1)]


def origin(chance, progress):
    """The fields that say which campaign or Canvas step a message comes from."""
    app_group_id = chance.weighted(list(APP_GROUPS.items()))
    campaigns = [(c, c[3]) for c in CAMPAIGNS if app_group_id in (None, c[0])]
    canvases = [(c, c[4]) for c in CANVASES if app_group_id in (None, c[0])]
    fields = {}
    if app_group_id is not None:
        fields["app_group_id"] = app_group_id
    if chance.happens(2):  # neither: a message that was sent through the API without a campaign
        return fields
    source, _ = chance.weighted([((s, s), w) for s, w in campaigns + canvases])
    if len(source) == 4:
        fields["campaign_id"] = source[1]
        fields["campaign_name"] = known_name(source[2], progress)
        if chance.happens(10):  # absent keys and null occur side by side
            fields["canvas_id"] = None
            fields["canvas_name"] = None
    else:
        step_id, step_names = chance.pick(source[3])
        fields["canvas_id"] = source[1]
        fields["canvas_name"] = known_name(source[2], progress)
        fields["canvas_step_id"] = step_id
        fields["canvas_step_name"] = known_name(step_names, progress)
        fields["canvas_variation_id"] = source[1][:-4] + "0001"
        fields["canvas_variation_name"] = "Variant 1"
    return fields


def channel_fields(chance, event_type):
    """What an event of this channel carries beside its origin; all of it is passed over."""
    fields = {"dispatch_id": chance.hexadecimal(32), "message_variation_id": chance.uuid()}
    if ".email." in event_type:
        fields["email_address"] = f"reader{chance.below(100000)}@example.com"
        fields["ip_pool"] = "marketing"
        fields["send_id"] = chance.hexadecimal(24)
    if ".sms." in event_type or ".rcs." in event_type:
        fields["to_phone_number"] = f"+1555555{100 + chance.below(100):04d}"
        fields["subscription_group_id"] = chance.uuid()
    if ".pushnotification." in event_type:
        fields["device_id"] = chance.uuid()
        fields["platform"] = chance.pick(["ios", "android", "web"])
        fields["ad_tracking_enabled"] = chance.happens(50)
    if event_type.endswith("Click"):
        fields["url"] = f"https://shop.example.com/p/{chance.below(9999)}?utm=a%20b&q=\"x\""
    if chance.happens(15):
        extras = {"locale": chance.pick(["de", "en", "ja"]), "campaign_id": "not this one"}
        extras["offer"] = [1, {"deep": "\\\"}"}]
        fields["message_extras"] = json.dumps(extras)
    return fields


def event(chance, event_type, number, total):
    """One event in the shape of a Currents HTTP push."""
    properties = origin(chance, number / total)
    properties.update(channel_fields(chance, event_type))
    if event_type.endswith("line.Send"):
        properties.pop("canvas_name", None)
    return {
        "event_type": event_type,
        "id": chance.uuid(),
        "time": START + number * 3600 // total,
        "user": {
            "user_id": chance.hexadecimal(24),
            "external_user_id": f"customer-{chance.below(1000000)}",
            "timezone": chance.pick(TIMEZONES),
        },
        "properties": properties,
    }


def stream(chance, total, sends_percent):
    """Events in the order in which Braze hands them over: nearly, but not quite, that of their times."""
    events = []
    for number in range(total):
        types = SEND_TYPES if chance.happens(sends_percent) else OTHER_TYPES
        made = event(chance, chance.weighted(list(types.items())), number, total)
        if chance.happens(5):
            made["time"] -= 300 + chance.below(1500)
        events.append(made)
    return events


def write_json(chance, value):
    """JSON as different writers write it: spaces or none, UTF-8 or escapes."""
    separators = (", ", ": ") if chance.happens(10) else (",", ":")
    return json.dumps(value, ensure_ascii=chance.happens(25), separators=separators)


def flat(chance, pushed):
    """The same event as Currents writes it to storage: flat, without its type, partly as Avro unions."""
    record = {"id": pushed["id"], **{k: v for k, v in pushed["user"].items()}, "time": pushed["time"]}
    as_unions = chance.happens(40)
    for name in TAG_FIELDS:
        value = pushed["properties"].get(name)
        if value is not None and as_unions:
            value = {"string": value}
        if value is not None or chance.happens(70):
            record[name] = value
    for name, value in pushed["properties"].items():
        if name not in TAG_FIELDS:
            record[name] = {"string": value} if as_unions and isinstance(value, str) else value
    return record


def text(value):
    return value["string"] if isinstance(value, dict) else value


def truth(events, event_type=None):
    """What is in a file: `events` in either shape, of `event_type` where they do not say it themselves."""
    seen, sends, duplicates = set(), [], 0
    ignored = Counter()
    for item in events:
        kind = item.get("event_type", event_type)
        if kind not in SEND_TYPES:
            ignored[kind] += 1
        elif item["id"] in seen:
            duplicates += 1
        else:
            seen.add(item["id"])
            sends.append((kind, item.get("properties", item)))
    by = lambda name: dict(sorted(Counter(text(fields.get(name)) or "" for _, fields in sends).items()))
    return {
        "events": len(events),
        "sends": len(sends),
        "duplicates": duplicates,
        "ignored": sum(ignored.values()),
        "sends_by_event_type": dict(sorted(Counter(kind for kind, _ in sends).items())),
        "sends_by_app_group_id": by("app_group_id"),
        "sends_by_campaign_id": by("campaign_id"),
        "sends_by_canvas_step_id": by("canvas_step_id"),
        "ignored_by_event_type": dict(sorted(ignored.items())),
    }


def currents_stream(chance):
    """The large sample: about two thousand bare events."""
    events = stream(chance, 1980, 70)
    for number in (300, 900, 1500):  # what "Send test event" in Braze's dashboard sends
        test = event(chance, "users.messages.email.Send", number, 1980)
        test["time"] = START + 5 * 365 * 86400
        test["properties"].update({"campaign_id": "campaign_id", "campaign_name": "campaign_name"})
        events.insert(number, test)
    sends = [e for e in events if e["event_type"] in SEND_TYPES]
    for number in range(17):  # the same id again, as after a retry or a split batch
        events.insert(200 + number * 105, copy.deepcopy(sends[number * 11]))
    return events


def storage(chance):
    """Files under the paths of a Currents storage connector, with their events and types."""
    files = {}
    for event_type, total, suffix in [
        ("users.messages.email.Send", 200, ""),
        ("users.messages.pushnotification.Send", 120, ".gz"),
        ("users.messages.email.Open", 40, ""),
    ]:
        records = [flat(chance, event(chance, event_type, n, total)) for n in range(total)]
        path = f"storage/event_type={event_type}/date=2026-11-20-10/part.ndjson{suffix}"
        files[path] = (records, event_type)
    return files


def avro_long(number):
    """Avro's zigzag encoding of an int or long."""
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(out) + bytes([rest])


def avro_bytes(content):
    return avro_long(len(content)) + content


def avro_value(kind, value):
    if isinstance(kind, list):
        branch = 0 if value is None else 1
        return avro_long(branch) + avro_value(kind[branch], value)
    if kind == "null":
        return b""
    if kind == "boolean":
        return bytes([value])
    return avro_bytes(value.encode()) if kind == "string" else avro_long(value)


def deflate(block):
    """Stored blocks only: what a compressor makes of them is not the same everywhere."""
    pieces = [block[at:at + 65535] for at in range(0, len(block), 65535)]
    head = lambda last, piece: bytes([last]) + len(piece).to_bytes(2, "little") + (len(piece) ^ 0xFFFF).to_bytes(2, "little")
    return b"".join(head(number == len(pieces) - 1, piece) + piece for number, piece in enumerate(pieces))


def snappy(block):
    """One literal, and the checksum that Avro puts behind it."""
    rest, length = len(block), bytearray()
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    literal = bytes([61 << 2]) + (len(block) - 1).to_bytes(2, "little")
    return bytes(length) + literal + block + zlib.crc32(block).to_bytes(4, "big")


def zstandard(block):
    """One raw block in a frame that says its size."""
    frame = b"\x28\xb5\x2f\xfd\xa0" + len(block).to_bytes(4, "little")
    return frame + (1 | len(block) << 3).to_bytes(3, "little") + block


CODECS = {"null": bytes, "deflate": deflate, "snappy": snappy, "zstandard": zstandard}


def avro_schema(event_type, records):
    """As in a storage export: the type is in the full name, `time` of WhatsApp is a long."""
    namespace, name = event_type.rsplit(".", 1)
    fields = [{"name": "id", "type": "string"}, {"name": "user_id", "type": "string"}]
    fields.append({"name": "time", "type": "long" if ".whatsapp." in event_type else "int"})
    known = {field["name"] for field in fields}
    for key in sorted({key for record in records for key in record} - known):
        kind = "boolean" if key == "ad_tracking_enabled" else "string"
        fields.append({"name": key, "type": ["null", kind], "default": None})
    return {"type": "record", "name": name, "namespace": "dataexport.S3.inner." + namespace, "fields": fields}


def avro_container(codec, event_type, records):
    """An object container of blocks of 40 records."""
    schema = avro_schema(event_type, records)
    marker = hashlib.md5(event_type.encode()).digest()
    metadata = {"avro.schema": json.dumps(schema, separators=(",", ":")), "avro.codec": codec}
    out = b"Obj\x01" + avro_long(len(metadata))
    out += b"".join(avro_bytes(key.encode()) + avro_bytes(value.encode()) for key, value in metadata.items())
    out += avro_long(0) + marker
    for at in range(0, len(records), 40):
        held = records[at:at + 40]
        block = b"".join(avro_value(f["type"], r.get(f["name"])) for r in held for f in schema["fields"])
        out += avro_long(len(held)) + avro_bytes(CODECS[codec](block)) + marker
    return out


def storage_avro(chance):
    """Object containers as Currents writes them to storage, one for each codec."""
    files = {}
    for event_type, total, codec in [
        ("users.messages.email.Send", 150, "deflate"),
        ("users.messages.email.Open", 50, "null"),
        ("users.messages.pushnotification.Send", 90, "zstandard"),
        ("users.messages.whatsapp.Send", 70, "snappy"),
    ]:
        records = []
        for number in range(total):
            pushed = event(chance, event_type, number, total)
            records.append({"id": pushed["id"], **pushed["user"], "time": pushed["time"], **pushed["properties"]})
        records[60:60] = records[:1] * (codec == "snappy")  # the same id again
        path = f"storage-avro/event_type={event_type}/date=2026-11-20-10/part-{codec}.avro"
        files[path] = (avro_container(codec, event_type, records), records, event_type)
    return files


def captured(events):
    """A container of Azure Event Hubs' Capture: what was sent to the hub is the bytes of `Body`."""
    values = {"type": "map", "values": ["long", "double", "string", "bytes"]}
    kinds = {"SequenceNumber": "long", "Offset": "string", "EnqueuedTimeUtc": "string"}
    kinds.update({"SystemProperties": values, "Properties": values, "Body": ["null", "bytes"]})
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    schema = {"type": "record", "name": "EventData", "namespace": "Microsoft.ServiceBus.Messaging", "fields": fields}
    metadata = {"avro.schema": json.dumps(schema, separators=(",", ":")), "avro.codec": "deflate"}
    marker = hashlib.md5(b"event-hubs-capture").digest()
    out = b"Obj\x01" + avro_long(len(metadata))
    out += b"".join(avro_bytes(key.encode()) + avro_bytes(value.encode()) for key, value in metadata.items())
    out += avro_long(0) + marker
    # An event of the hub is one of Braze's, an array of them, or several, one a line.
    lines = "\n".join(map(json.dumps, events[5:8]))
    bodies = [*map(json.dumps, events[:2]), json.dumps(events[2:5]), lines, json.dumps({"events": events[8:]}), None]
    block = b""
    for number, body in enumerate(bodies):
        key = avro_long(1) + avro_bytes(b"x-opt-enqueued-time") + avro_long(0) + avro_long(START * 1000) + avro_long(0)
        block += avro_long(number) + avro_bytes(str(number * 48).encode()) + avro_bytes(b"11/20/2026 10:00:00 AM")
        block += key + avro_long(0)
        block += avro_long(0) if body is None else avro_long(1) + avro_bytes(body.encode())
    return out + avro_long(len(bodies)) + avro_bytes(deflate(block)) + marker


def intermediaries(chance):
    """What intermediaries make of events, and the events in each."""
    encode = lambda value: base64.b64encode(json.dumps(value).encode()).decode()
    instant = "2026-11-20T10:00:00.000Z"
    files = {}

    def add(name, events, content):
        files[f"intermediaries/{name}"] = (content if isinstance(content, (bytes, str)) else json.dumps(content), events)

    events = stream(chance, 1, 100)
    bridge = lambda event: {
        "version": "0", "id": chance.uuid(), "detail-type": "Braze event", "source": "acme.braze", "account": "111122223333",
        "time": instant, "region": "eu-west-1", "resources": [], "detail": event,
    }
    add("event-bridge.json", events, bridge(events[0]))

    topic = "arn:aws:sns:eu-west-1:111122223333:braze"
    sns = lambda kind, message: {
        "Type": kind, "MessageId": chance.uuid(), "TopicArn": topic, "Message": message, "Timestamp": instant,
        "SignatureVersion": "1", "Signature": "c2lnbmF0dXJl", "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/x.pem",
    }
    events = stream(chance, 6, 75)
    add("sns-notification.json", events, sns("Notification", json.dumps({"events": events})))
    confirmation = sns("SubscriptionConfirmation", f"You have chosen to subscribe to the topic {topic}.")
    confirmation["Token"] = chance.hexadecimal(64)
    confirmation["SubscribeURL"] = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=" + confirmation["Token"]
    add("sns-subscription-confirmation.json", [], confirmation)

    events = stream(chance, 7, 75)
    sqs = lambda body: {"messageId": chance.uuid(), "receiptHandle": "r", "body": body, "attributes": {}, "eventSource": "aws:sqs"}
    plain = [sqs(json.dumps(event)) for event in events[:5]]
    deep = sqs(json.dumps(sns("Notification", json.dumps(bridge(events[5])))))
    add("lambda-sqs.json", events, {"Records": [*plain, deep, sqs(json.dumps(bridge(events[6])))]})
    events = stream(chance, 2, 75)
    records = [{"EventSource": "aws:sns", "Sns": sns("Notification", json.dumps(event))} for event in events]
    add("lambda-sns.json", events, {"Records": records})
    events = stream(chance, 5, 75)
    kinesis = lambda data: {"eventSource": "aws:kinesis", "kinesis": {"partitionKey": "1", "sequenceNumber": "4", "data": data}}
    add("lambda-kinesis.json", events, {"Records": [kinesis(encode(event)) for event in events]})

    events = stream(chance, 8, 75)
    records = [{"data": encode(event)} for event in events[:5]] + [{"data": encode({"events": events[5:]})}]
    add("firehose-push.json", events, {"requestId": chance.uuid(), "timestamp": START * 1000, "records": records})
    events = stream(chance, 40, 75)
    add("firehose-concatenated.json", events, "".join(write_json(chance, event) for event in events))

    events = stream(chance, 4, 75)
    message = {"data": encode({"events": events}), "messageId": "7", "publishTime": instant, "attributes": {"a": "b"}}
    add("pubsub-push.json", events, {"message": message, "subscription": "projects/acme/subscriptions/braze"})

    cloud = {"specversion": "1.0", "type": "com.acme.braze", "source": "/braze", "time": instant, "datacontenttype": "application/json"}
    events = stream(chance, 3, 75)
    add("cloudevents-structured.json", events, {**cloud, "id": chance.uuid(), "data": {"events": events}})
    events = stream(chance, 5, 75)
    batch = [{**cloud, "id": chance.uuid(), "data": event} for event in events[:3]]
    batch += [{**cloud, "id": chance.uuid(), "data_base64": encode(event)} for event in events[3:]]
    add("cloudevents-batch.json", events, batch)

    events = stream(chance, 3, 75)
    schema = {"type": "string", "optional": False}
    add("kafka-connect.json", events, {"schema": schema, "payload": json.dumps(events)})

    events = stream(chance, 12, 75)
    add("event-hubs-capture.avro", events, captured(events))

    # Messages of Kafka: the value, with the frame that its producer puts before it.
    events = stream(chance, 3, 75)
    add("kafka-json-schema.message", events, b"\0" + (7).to_bytes(4, "big") + json.dumps({"events": events}).encode())
    version = bytes(range(16))
    events = stream(chance, 3, 75)
    add("kafka-glue.message", events, b"\x03\0" + version + json.dumps({"events": events}).encode())
    events = stream(chance, 3, 75)
    content = json.dumps({"events": events}).encode()
    packed = b"\x78\x01" + deflate(content) + zlib.adler32(content).to_bytes(4, "big")
    add("kafka-glue-zlib.message", events, b"\x03\x05" + version + packed)
    return files


def internal_record(pushed):
    """An internal queue record: database ids beside the public ones; the public ones are the tags."""
    record = {name: pushed[name] for name in ("event_type", "id", "time")}
    record.update({
        "user_id": pushed["user"]["user_id"],
        "app_group_id": "5d0000000000000000000001", "app_group_api_id": EMEA,
        "campaign_id": "5d0000000000000000000002", "campaign_api_id": CAMPAIGNS[0][1],
        "canvas_id": None, "canvas_api_id": None,
    })
    return record


def odd_bodies(chance):
    """Bodies that have been seen in the wild, and the sends that each holds."""
    one = lambda: event(chance, "users.messages.email.Send", 0, 1)
    without = lambda name: {k: v for k, v in one().items() if k != name}
    string_time = one()
    string_time["time"] = str(string_time["time"])
    many = [one(), one(), event(chance, "users.messages.email.Open", 0, 1)]
    pairs = {
        "empty.json": ("", 0),
        "empty-object.json": ("{}", 0),
        "null.json": ("null", 0),
        "empty-array.json": ("[]", 0),
        "array-of-null.json": ("[null]", 0),
        "array-of-empty-object.json": ("[{}]", 0),
        "empty-envelope.json": ('{"events":[]}', 0),
        "array-of-envelope.json": (json.dumps([{"events": many}]), 2),
        "array-of-events.json": (json.dumps(many), 2),
        "bare-event.json": (json.dumps(one()), 1),
        "pretty-envelope.json": (json.dumps({"events": many}, indent=2, ensure_ascii=False), 2),
        "no-id.json": (json.dumps(without("id")), 0),
        "no-time.json": (json.dumps(without("time")), 0),
        "string-time.json": (json.dumps(string_time), 1),
        "internal-record.json": (json.dumps(internal_record(one())), 1),
        "cut-off.json": (json.dumps({"events": many})[:-120], 2),
    }
    return {f"odd-bodies/{name}": pair for name, pair in pairs.items()}


def table(truths):
    """The table of README.md."""
    lines = ["| file | events | sends | duplicates | ignored |", "|---|---:|---:|---:|---:|"]
    for name, held in truths.items():
        lines.append(f"| `{name}` | {held['events']} | {held['sends']} | {held['duplicates']} | {held['ignored']} |")
    return "\n".join(lines)


def generate():
    """Every file by its name, as bytes."""
    chance = Chance(SEED)
    files, truths = {}, {}

    batch = stream(chance, 100, 80)
    files["currents-batch.json"] = write_json(chance, {"events": batch})
    truths["currents-batch.json"] = truth(batch)

    events = currents_stream(chance)
    files["currents.ndjson"] = "".join(write_json(chance, e) + "\n" for e in events)
    truths["currents.ndjson"] = truth(events)

    for path, (records, event_type) in storage(chance).items():
        files[path] = "".join(write_json(chance, r) + "\n" for r in records)
        truths[path] = truth(records, event_type)

    for path, (content, records, event_type) in storage_avro(Chance(SEED + 1)).items():
        files[path] = content
        truths[path] = truth(records, event_type)

    wrapped = intermediaries(Chance(SEED + 2))
    files.update({path: content for path, (content, _) in wrapped.items()})
    held = {path: truth(events) for path, (_, events) in wrapped.items()}

    odd = odd_bodies(chance)
    files.update({path: body for path, (body, _) in odd.items()})
    everything = {"files": truths, "intermediaries": held, "odd_bodies_sends": {path: sends for path, (_, sends) in odd.items()}}
    files["truth.json"] = json.dumps(everything, indent=1, ensure_ascii=False) + "\n"

    readme = (HERE / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split("<!-- table -->\n", 1)
    _, after = rest.split("<!-- end -->", 1)
    files["README.md"] = f"{before}<!-- table -->\n{table(truths)}\n<!-- end -->{after}"
    return {name: content if isinstance(content, bytes) else content.encode() for name, content in files.items()}


def differs(path, content):
    """Whether the file on disk is another one; compressed files are compared by what they hold."""
    if not path.exists():
        return True
    found = path.read_bytes()
    return (gzip.decompress(found) if path.suffix == ".gz" else found) != content


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit("usage: generate.py [--check]")
    changed = [(HERE / name, content) for name, content in generate().items() if differs(HERE / name, content)]
    for path, content in changed:
        print(("differs: " if check else "writes: ") + str(path.relative_to(HERE)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    sys.exit(1 if check and changed else 0)


if __name__ == "__main__":
    main()
