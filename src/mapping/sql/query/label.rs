//! What a column of a query is called when nobody says.
//!
//! A name that is not the server's would be a hole: an outer query that asks for it would be taken to mean something else.
//!
//! # Source
//! `FigureColnameInternal` in `src/backend/parser/parse_target.c`.

use std::sync::Arc;

use ahash::AHashMap;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExprKind, JsonExprOp, MinMaxOp, Node, ResTarget, SqlValueFunctionOp, SubLink, SubLinkType, XmlExprOp,
};

/// What the first column of each subquery is called that was walked, by where in memory its node lies.
pub(super) type Labels = AHashMap<usize, Arc<str>>;

/// Where a node lies: the tree is not moved while it is walked.
pub(super) fn place(link: &SubLink) -> usize {
    std::ptr::from_ref(link).addr()
}

/// How good a name is: a cast's replaces only weak ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    None,
    Weak,
    Strong,
}

/// The name of an output column.
pub(super) fn label(target: &ResTarget, labels: &Labels) -> Arc<str> {
    if !target.name.is_empty() {
        return Arc::from(target.name.as_str());
    }
    expression_label(target.val.as_deref(), labels)
}

/// The name that an expression gives a column.
pub(super) fn expression_label(node: Option<&Node>, labels: &Labels) -> Arc<str> {
    let mut name = "?column?".to_owned();
    figure(node, &mut name, labels, 0);
    Arc::from(name)
}

fn last_string(nodes: &[Node]) -> Option<&str> {
    nodes.iter().rev().find_map(|node| match &node.node {
        Some(NodeEnum::String(text)) => Some(text.sval.as_str()),
        _ => None,
    })
}

fn figure(node: Option<&Node>, name: &mut String, labels: &Labels, depth: usize) -> Strength {
    let Some(node) = node.and_then(|node| node.node.as_ref()) else { return Strength::None };
    // Deeper ones are refused by the walk.
    if depth > super::DEEPEST {
        return Strength::None;
    }
    let strong: &str = match node {
        NodeEnum::ColumnRef(column) => match last_string(&column.fields) {
            Some(last) => last,
            None => return Strength::None,
        },
        NodeEnum::AIndirection(indirection) => match last_string(&indirection.indirection) {
            Some(last) => last,
            None => return figure(indirection.arg.as_deref(), name, labels, depth + 1),
        },
        NodeEnum::FuncCall(call) => last_string(&call.funcname).unwrap_or_default(),
        NodeEnum::AExpr(expression) if expression.kind() == AExprKind::AexprNullif => "nullif",
        NodeEnum::TypeCast(cast) => {
            let strength = figure(cast.arg.as_deref(), name, labels, depth + 1);
            let named = cast.type_name.as_ref().and_then(|type_name| last_string(&type_name.names));
            return weak(strength, named, name);
        }
        NodeEnum::CollateClause(collate) => return figure(collate.arg.as_deref(), name, labels, depth + 1),
        NodeEnum::GroupingFunc(_) => "grouping",
        NodeEnum::MergeSupportFunc(_) => "merge_action",
        NodeEnum::SubLink(link) => return sub_link(link, name, labels),
        NodeEnum::CaseExpr(case) => {
            let strength = figure(case.defresult.as_deref(), name, labels, depth + 1);
            return weak(strength, Some("case"), name);
        }
        NodeEnum::AArrayExpr(_) => "array",
        NodeEnum::RowExpr(_) => "row",
        NodeEnum::CoalesceExpr(_) => "coalesce",
        NodeEnum::MinMaxExpr(expression) if expression.op() == MinMaxOp::IsLeast => "least",
        NodeEnum::MinMaxExpr(_) => "greatest",
        NodeEnum::SqlvalueFunction(function) => value_function(function.op()),
        NodeEnum::XmlExpr(xml) => match xml_function(xml.op()) {
            Some(function) => function,
            None => return Strength::None,
        },
        NodeEnum::XmlSerialize(_) => "xmlserialize",
        NodeEnum::JsonParseExpr(_) => "json",
        NodeEnum::JsonScalarExpr(_) => "json_scalar",
        NodeEnum::JsonSerializeExpr(_) => "json_serialize",
        NodeEnum::JsonObjectConstructor(_) => "json_object",
        NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => "json_array",
        NodeEnum::JsonObjectAgg(_) => "json_objectagg",
        NodeEnum::JsonArrayAgg(_) => "json_arrayagg",
        NodeEnum::JsonFuncExpr(function) => match function.op() {
            JsonExprOp::JsonExistsOp => "json_exists",
            JsonExprOp::JsonQueryOp => "json_query",
            JsonExprOp::JsonValueOp => "json_value",
            JsonExprOp::JsonTableOp | JsonExprOp::Undefined => return Strength::None,
        },
        _ => return Strength::None,
    };
    strong.clone_into(name);
    Strength::Strong
}

fn weak(inner: Strength, named: Option<&str>, name: &mut String) -> Strength {
    match named {
        Some(named) if inner <= Strength::Weak => {
            named.clone_into(name);
            Strength::Weak
        }
        _ => inner,
    }
}

fn sub_link(link: &SubLink, name: &mut String, labels: &Labels) -> Strength {
    let strong = match link.sub_link_type() {
        SubLinkType::ExistsSublink => "exists",
        SubLinkType::ArraySublink => "array",
        SubLinkType::ExprSublink => match labels.get(&place(link)) {
            Some(label) => label,
            None => return Strength::None,
        },
        _ => return Strength::None,
    };
    strong.clone_into(name);
    Strength::Strong
}

fn value_function(op: SqlValueFunctionOp) -> &'static str {
    match op {
        SqlValueFunctionOp::SvfopCurrentDate => "current_date",
        SqlValueFunctionOp::SvfopCurrentTime | SqlValueFunctionOp::SvfopCurrentTimeN => "current_time",
        SqlValueFunctionOp::SvfopCurrentTimestamp | SqlValueFunctionOp::SvfopCurrentTimestampN => "current_timestamp",
        SqlValueFunctionOp::SvfopLocaltime | SqlValueFunctionOp::SvfopLocaltimeN => "localtime",
        SqlValueFunctionOp::SvfopLocaltimestamp | SqlValueFunctionOp::SvfopLocaltimestampN => "localtimestamp",
        SqlValueFunctionOp::SvfopCurrentRole => "current_role",
        SqlValueFunctionOp::SvfopCurrentUser => "current_user",
        SqlValueFunctionOp::SvfopUser => "user",
        SqlValueFunctionOp::SvfopSessionUser => "session_user",
        SqlValueFunctionOp::SvfopCurrentCatalog => "current_catalog",
        SqlValueFunctionOp::SvfopCurrentSchema => "current_schema",
        SqlValueFunctionOp::SqlvalueFunctionOpUndefined => "?column?",
    }
}

fn xml_function(op: XmlExprOp) -> Option<&'static str> {
    match op {
        XmlExprOp::IsXmlconcat => Some("xmlconcat"),
        XmlExprOp::IsXmlelement => Some("xmlelement"),
        XmlExprOp::IsXmlforest => Some("xmlforest"),
        XmlExprOp::IsXmlparse => Some("xmlparse"),
        XmlExprOp::IsXmlpi => Some("xmlpi"),
        XmlExprOp::IsXmlroot => Some("xmlroot"),
        XmlExprOp::IsXmlserialize => Some("xmlserialize"),
        XmlExprOp::IsDocument | XmlExprOp::Undefined => None,
    }
}
