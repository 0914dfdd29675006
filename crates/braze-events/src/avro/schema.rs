//! Compiles the JSON text of a writer's schema into what a walk along the bytes needs.
//!
//! Read leniently: only the division of the bytes matters, so names, defaults, aliases and documentation are not checked.
//! Source: Avro 1.12 specification, "Schema Declaration".

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::EventDefaults;
use crate::event_fields::FieldKey;

/// The text of a schema may be this long; those of Braze have a few KiB.
const SCHEMA_BYTES_MAX: usize = 1024 * 1024;

/// Where the event type begins in the full name of a record.
const EVENT_TYPE_ROOT: &str = "users.";

/// The field of a record that Azure Event Hubs' Capture writes, whose bytes are what was sent to the hub.
const BODY: &str = "Body";

/// The text is no schema, or one that can't be a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotASchema;

/// The place of a [`Node`] in its plan.
pub(super) type NodeId = usize;

/// How the bytes of one type are divided.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    /// `int` and `long`.
    Integer(Unit),
    Fixed(usize),
    Float,
    Double,
    Bytes,
    Text,
    Enum(Box<[Box<str>]>),
    Array(NodeId),
    Map(NodeId),
    Union(Box<[NodeId]>),
    Record(Box<RecordNode>),
}

/// What an integer counts when it is read as a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// So many of them make a second.
    PerSecond(u64),
    /// A day, or the time of one.
    NoInstant,
}

#[derive(Debug)]
pub(super) struct RecordNode {
    pub(super) members: Box<[Member]>,
    /// Whether an event can state its own type.
    says_type: bool,
    /// The member that holds events as bytes, where the record is not an event itself.
    pub(super) body: Option<usize>,
    /// The event type in its full name; empty where there is none.
    pub(super) named: Box<str>,
    /// Any other type that its full name states; empty where it is a type of Braze's users, or has no namespace.
    pub(super) foreign: Box<str>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: FieldKey,
    pub(super) node: NodeId,
}

/// A compiled schema.
#[derive(Debug)]
pub(super) struct AvroPlan {
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
}

impl AvroPlan {
    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let beside = |node: &Node| match node {
            Node::Enum(symbols) => {
                size_of_val(&**symbols) + symbols.iter().map(|symbol| symbol.len()).sum::<usize>()
            }
            Node::Union(branches) => size_of_val(&**branches),
            Node::Record(record) => size_of::<RecordNode>() + size_of_val(&*record.members),
            _ => 0,
        };
        self.nodes.capacity() * size_of::<Node>() + self.nodes.iter().map(beside).sum::<usize>()
    }

    /// The record that holds events as bytes, and which of its members holds them, if the datums are such records.
    pub(super) fn holder(&self) -> Option<(&RecordNode, usize)> {
        let Node::Record(record) = &self.nodes[self.root] else { return None };
        Some((record, record.body?))
    }

    /// The type of all events with these defaults, where none can state another.
    pub(super) fn fixed_type<'p>(&'p self, defaults: &'p EventDefaults) -> Option<&'p [u8]> {
        let Node::Record(record) = &self.nodes[self.root] else { return None };
        let known = match (&*record.named, defaults.event_type.as_deref()) {
            ("", known) => known.unwrap_or(&record.foreign),
            (named, _) => named,
        };
        (!record.says_type && !known.is_empty()).then_some(known.as_bytes())
    }
}

/// Compiles a schema whose datums can be events: a record, or a union with one.
pub(super) fn compile(text: &str) -> Result<AvroPlan, NotASchema> {
    if text.len() > SCHEMA_BYTES_MAX {
        return Err(NotASchema);
    }
    // The parser bounds the depth, and with it the depth of the recursion here.
    let schema: Value = serde_json::from_str(text).map_err(|_| NotASchema)?;
    let mut compiler = Compiler { nodes: Vec::new(), names: HashMap::new() };
    let root = compiler.node(&schema, "")?;
    let mut nodes = compiler.nodes;
    nodes.shrink_to_fit();
    let is_record = |id: &NodeId| matches!(nodes[*id], Node::Record(_));
    let can_be_event = match &nodes[root] {
        Node::Union(branches) => branches.iter().any(is_record),
        _ => is_record(&root),
    };
    if can_be_event { Ok(AvroPlan { nodes, root }) } else { Err(NotASchema) }
}

struct Compiler {
    nodes: Vec<Node>,
    /// By full name.
    names: HashMap<String, NodeId>,
}

impl Compiler {
    fn node(&mut self, schema: &Value, namespace: &str) -> Result<NodeId, NotASchema> {
        match schema {
            Value::String(name) => self.primitive_or_named(name, None, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.node(branch, namespace));
                let branches = branches.collect::<Result<_, _>>()?;
                Ok(self.add(Node::Union(branches)))
            }
            Value::Object(schema) => match schema.get("type").ok_or(NotASchema)? {
                Value::String(kind) => self.complex(schema, kind, namespace),
                inner => self.node(inner, namespace),
            },
            _ => Err(NotASchema),
        }
    }

    fn complex(
        &mut self,
        schema: &Map<String, Value>,
        kind: &str,
        namespace: &str,
    ) -> Result<NodeId, NotASchema> {
        match kind {
            "record" | "error" => self.record(schema, namespace),
            "enum" => {
                let symbols = schema.get("symbols").and_then(Value::as_array).ok_or(NotASchema)?;
                let symbols = symbols.iter().map(|symbol| symbol.as_str().map(Box::from).ok_or(NotASchema));
                let node = Node::Enum(symbols.collect::<Result<_, _>>()?);
                self.add_named(node, schema, namespace)
            }
            "fixed" => {
                let size = schema.get("size").and_then(Value::as_u64).ok_or(NotASchema)?;
                let node = Node::Fixed(usize::try_from(size).map_err(|_| NotASchema)?);
                self.add_named(node, schema, namespace)
            }
            "array" => {
                let items = self.node(schema.get("items").ok_or(NotASchema)?, namespace)?;
                Ok(self.add(Node::Array(items)))
            }
            "map" => {
                let values = self.node(schema.get("values").ok_or(NotASchema)?, namespace)?;
                Ok(self.add(Node::Map(values)))
            }
            _ => {
                let logical = schema.get("logicalType").and_then(Value::as_str);
                self.primitive_or_named(kind, logical, namespace)
            }
        }
    }

    fn primitive_or_named(
        &mut self,
        name: &str,
        logical: Option<&str>,
        namespace: &str,
    ) -> Result<NodeId, NotASchema> {
        let node = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" | "long" => Node::Integer(unit(logical)),
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::Text,
            _ => {
                let known = self.names.get(&full_name(name, namespace)).or_else(|| self.names.get(name));
                return known.copied().ok_or(NotASchema);
            }
        };
        Ok(self.add(node))
    }

    fn record(&mut self, schema: &Map<String, Value>, namespace: &str) -> Result<NodeId, NotASchema> {
        // Its own name must be known while its fields are read, which may refer to it.
        let id = self.add_named(Node::Null, schema, namespace)?;
        let name = name_of(schema, namespace)?;
        let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let fields = schema.get("fields").and_then(Value::as_array).ok_or(NotASchema)?;
        let mut members = Vec::with_capacity(fields.len());
        let mut body = None;
        for field in fields {
            let key = field.get("name").and_then(Value::as_str).ok_or(NotASchema)?;
            let node = self.node(field.get("type").ok_or(NotASchema)?, namespace)?;
            if key == BODY && self.is_bytes(node) {
                body = Some(members.len());
            }
            members.push(Member { key: FieldKey::of(key.as_bytes()), node });
        }
        let says_type = members.iter().any(|member| member.key == FieldKey::EventType);
        let named = event_type_in(&name);
        // A record is an event if it has a field of an event, or the name of one.
        let is_event = !named.is_empty() || members.iter().any(|member| member.key != FieldKey::Other);
        let body = body.filter(|_| !is_event);
        let foreign = if named.is_empty() { foreign_type_in(&name) } else { "" };
        let (named, foreign) = (named.into(), foreign.into());
        let record = RecordNode { members: members.into(), says_type, body, named, foreign };
        self.nodes[id] = Node::Record(Box::new(record));
        Ok(id)
    }

    /// Whether the node is bytes or a text, or a union with one of them.
    fn is_bytes(&self, node: NodeId) -> bool {
        let is_bytes = |node: &NodeId| matches!(self.nodes[*node], Node::Bytes | Node::Text);
        match &self.nodes[node] {
            Node::Union(branches) => branches.iter().any(is_bytes),
            _ => is_bytes(&node),
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn add_named(
        &mut self,
        node: Node,
        schema: &Map<String, Value>,
        namespace: &str,
    ) -> Result<NodeId, NotASchema> {
        let id = self.add(node);
        self.names.insert(name_of(schema, namespace)?, id);
        Ok(id)
    }
}

/// The full name of a schema that is defined within `namespace`.
fn name_of(schema: &Map<String, Value>, namespace: &str) -> Result<String, NotASchema> {
    let name = schema.get("name").and_then(Value::as_str).ok_or(NotASchema)?;
    Ok(full_name(name, schema.get("namespace").and_then(Value::as_str).unwrap_or(namespace)))
}

/// Source: Avro 1.12 specification, "Names". One with nothing but a dot before it is in no namespace, as Avro's own libraries
/// have it.
fn full_name(name: &str, namespace: &str) -> String {
    if let Some(name) = name.strip_prefix('.').filter(|name| !name.contains('.')) {
        return name.to_owned();
    }
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The event type that is the end of a full name; empty if there is none.
fn event_type_in(full_name: &str) -> &str {
    let mut starts = full_name.rmatch_indices(EVENT_TYPE_ROOT).map(|(at, _)| at);
    let start = starts.find(|at| *at == 0 || full_name.as_bytes()[at - 1] == b'.');
    start.map_or("", |at| &full_name[at..])
}

/// The type of an event that is not of Braze's users: its full name without the prefix of storage exports; empty without a
/// namespace, for then the name says nothing.
fn foreign_type_in(full_name: &str) -> &str {
    if !full_name.contains('.') {
        return "";
    }
    let exported = full_name.strip_prefix("dataexport.").and_then(|name| name.split_once(".inner."));
    exported.map_or(full_name, |(_, name)| name)
}

/// Source: Avro 1.12 specification, "Logical Types". An unknown one has no meaning.
fn unit(logical: Option<&str>) -> Unit {
    match logical {
        Some("timestamp-millis" | "local-timestamp-millis") => Unit::PerSecond(1_000),
        Some("timestamp-micros" | "local-timestamp-micros") => Unit::PerSecond(1_000_000),
        Some("timestamp-nanos" | "local-timestamp-nanos") => Unit::PerSecond(1_000_000_000),
        Some("date" | "time-millis" | "time-micros") => Unit::NoInstant,
        _ => Unit::PerSecond(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(schema: &str) -> String {
        let plan = compile(schema).expect(schema);
        let Node::Record(record) = &plan.nodes[plan.root] else { panic!("{schema} is a record") };
        record.named.to_string()
    }

    #[test]
    fn the_full_name_tells_the_event_type_from_users_on() {
        for (name, namespace, expected) in [
            ("Send", Some("dataexport.S3.inner.users.messages.email"), "users.messages.email.Send"),
            ("Send", Some("com.acme.users.braze.users.messages.email"), "users.messages.email.Send"),
            ("Send", Some("users.messages.sms"), "users.messages.sms.Send"),
            ("a.users.canvas.Entry", Some("ignored"), "users.canvas.Entry"),
            ("Send", Some("dataexport.superusers.x"), ""),
            ("Send", Some("dataexport.superusers.users.x"), "users.x.Send"),
            ("Send", Some("com.acme.users"), "users.Send"),
            ("Send", None, ""),
            (".Send", Some("users.messages.sms"), ""),
            ("users", Some("com.acme"), ""),
        ] {
            let mut schema = serde_json::json!({"type": "record", "name": name, "fields": []});
            if let Some(namespace) = namespace {
                schema["namespace"] = namespace.into();
            }
            assert_eq!(named(&schema.to_string()), expected, "{schema}");
        }
    }

    #[test]
    fn what_is_no_schema_or_no_record_is_refused() {
        for schema in [
            "",
            "{",
            "5",
            "null",
            "[]",
            "{}",
            r#""string""#,
            r#"["null","string"]"#,
            r#"{"type":"record"}"#,
            r#"{"type":"record","name":"a"}"#,
            r#"{"type":"record","name":"a","fields":[{"name":"b"}]}"#,
            r#"{"type":"record","name":"a","fields":[{"type":"int"}]}"#,
            r#"{"type":"record","name":"a","fields":[{"name":"b","type":"unknown"}]}"#,
            r#"{"type":"record","name":"a","fields":[{"name":"b","type":{"type":"fixed","name":"f"}}]}"#,
            r#"{"type":"record","name":"a","fields":[{"name":"b","type":{"type":"enum","name":"f"}}]}"#,
            r#"{"type":"record","name":"a","fields":[{"name":"b","type":{"type":"array"}}]}"#,
        ] {
            assert!(compile(schema).is_err(), "{schema}");
        }
        let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(200_000), "}".repeat(200_000));
        assert!(compile(&deep).is_err());
        let long = format!(r#"{{"type":"record","name":"a","fields":[]{}}}"#, " ".repeat(SCHEMA_BYTES_MAX));
        assert!(compile(&long).is_err());
    }

    #[test]
    fn names_are_looked_up_in_their_namespace_and_then_as_they_are() {
        let schema = r#"{"type":"record","name":"R","namespace":"x","fields":[
            {"name":"a","type":{"type":"fixed","name":"F","size":2}},
            {"name":"b","type":"F"}, {"name":"c","type":"x.F"},
            {"name":"d","type":{"type":"fixed","name":"y.G","size":3}}, {"name":"e","type":"y.G"},
            {"name":"f","type":{"type":"fixed","name":"H","namespace":"","size":4}}, {"name":"g","type":"H"},
            {"name":"h","type":["null","R"]}]}"#;
        let plan = compile(schema).expect("is a schema");
        let Node::Record(record) = &plan.nodes[plan.root] else { panic!("is a record") };
        let sizes: Vec<usize> = record.members[..7]
            .iter()
            .map(|member| match plan.nodes[member.node] {
                Node::Fixed(size) => size,
                ref other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sizes, [2, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn ten_thousand_fields_are_no_trouble() {
        let fields: Vec<String> =
            (0..10_000).map(|n| format!(r#"{{"name":"f{n}","type":["null","string"]}}"#)).collect();
        let schema = format!(r#"{{"type":"record","name":"a","fields":[{}]}}"#, fields.join(","));
        assert!(compile(&schema).is_ok());
    }
}
