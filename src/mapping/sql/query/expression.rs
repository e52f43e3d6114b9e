//! Expressions.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AConst, AExpr, AExprKind, CaseExpr, Node, SortBy, SubLink, SubLinkType, WindowDef, XmlExpr, a_const::Val,
};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::unknown;
use crate::mapping::sql::catalog::is_built_in;
use crate::mapping::sql::names::{Call, Nature};

use super::scope::{ANY, Shape};
use super::{Walk, label, strings, unknown_node};

/// A value whose fields nobody asks for.
const SOME: Shape = Shape::Of(0);

impl Walk<'_, '_> {
    /// An expression, if there is one.
    pub(super) fn optional(&mut self, node: Option<&Node>) -> Result<Shape, SqlRefusal> {
        node.map_or(Ok(SOME), |node| self.value(node))
    }

    /// Several expressions that something is done with.
    pub(super) fn values(&mut self, nodes: &[Node]) -> Result<Shape, SqlRefusal> {
        for node in nodes {
            self.value(node)?;
        }
        Ok(SOME)
    }

    /// Functions of casts that may happen to a value without being written: only types that are somebody's have any.
    pub(super) fn implicit_casts(&mut self, shape: &Shape) -> Result<(), SqlRefusal> {
        match shape {
            Shape::Of(ANY) => {
                let casts = self.names.unwritten_casts();
                self.call_unseen(&casts)
            }
            // What may happen to a value of a built-in type is decided by the other side: the column that it is stored in.
            Shape::Of(type_oid) if !is_built_in(*type_oid) => {
                let casts = self.names.implicit_casts(*type_oid);
                self.call_unseen(&casts)
            }
            _ => Ok(()),
        }
    }

    /// An expression that something is done with: what is around it may cast it, a condition to boolean, a subscript to integer.
    pub(super) fn value(&mut self, node: &Node) -> Result<Shape, SqlRefusal> {
        let shape = self.bare(node)?;
        self.implicit_casts(&shape)?;
        Ok(shape)
    }

    /// An expression whose value is taken as it is, if there is one.
    pub(super) fn optional_bare(&mut self, node: Option<&Node>) -> Result<Shape, SqlRefusal> {
        node.map_or(Ok(SOME), |node| self.bare(node))
    }

    /// An expression whose value is taken as it is: returned, sorted by, or cast by what the text says.
    ///
    /// # Source
    /// `transformExprRecurse` in `src/backend/parser/parse_expr.c`.
    pub(super) fn bare(&mut self, node: &Node) -> Result<Shape, SqlRefusal> {
        let Some(node) = &node.node else { return Ok(SOME) };
        self.deeper(|walk| walk.node(node))
    }

    fn node(&mut self, node: &NodeEnum) -> Result<Shape, SqlRefusal> {
        self.kind_of_node(node).map_err(|refusal| match node {
            NodeEnum::ColumnRef(column) => refusal.at(column.location),
            NodeEnum::AExpr(expression) => refusal.at(expression.location),
            NodeEnum::TypeCast(cast) => refusal.at(cast.type_name.as_ref().map_or(-1, |name| name.location)),
            NodeEnum::FuncCall(call) => refusal.at(call.location),
            _ => refusal,
        })
    }

    fn kind_of_node(&mut self, node: &NodeEnum) -> Result<Shape, SqlRefusal> {
        match node {
            NodeEnum::ColumnRef(column) => self.column_ref(column),
            NodeEnum::AConst(constant) => Ok(Shape::Of(constant_type(constant))),
            NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            // The cursor's query was judged when it was declared.
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::SqlvalueFunction(_) => Ok(SOME),
            NodeEnum::AExpr(expression) => self.operation(expression),
            NodeEnum::AIndirection(indirection) => self.indirection(indirection),
            NodeEnum::AArrayExpr(array) => self.values(&array.elements),
            NodeEnum::TypeCast(cast) => self.cast(cast),
            NodeEnum::CollateClause(collate) => self.optional(collate.arg.as_deref()),
            NodeEnum::FuncCall(call) => self.function(call).map(|called| called.shape),
            NodeEnum::NamedArgExpr(argument) => self.optional(argument.arg.as_deref()),
            NodeEnum::SubLink(link) => self.sub_link(link),
            NodeEnum::BoolExpr(expression) => self.values(&expression.args),
            NodeEnum::CaseExpr(case) => self.case(case),
            NodeEnum::CoalesceExpr(expression) => self.values(&expression.args),
            // Its comparison is that of the type's default operator class, which no search_path reaches.
            NodeEnum::MinMaxExpr(expression) => self.values(&expression.args),
            NodeEnum::NullTest(test) => self.optional_bare(test.arg.as_deref()).map(|_| SOME),
            NodeEnum::BooleanTest(test) => self.optional(test.arg.as_deref()).map(|_| SOME),
            NodeEnum::RowExpr(row) => self.values(&row.args),
            NodeEnum::List(list) => self.values(&list.items),
            NodeEnum::GroupingFunc(grouping) => self.values(&grouping.args),
            NodeEnum::MergeSupportFunc(_) => self.since(17, "merge_action()").map(|()| SOME),
            NodeEnum::MultiAssignRef(assignment) => {
                // Its source stands at each of the columns, and is one: `transformMultiAssignRef`.
                if assignment.colno == 1 { self.optional(assignment.source.as_deref()) } else { Ok(SOME) }
            }
            NodeEnum::XmlExpr(xml) => self.xml(xml),
            NodeEnum::XmlSerialize(xml) => {
                self.optional(xml.expr.as_deref())?;
                self.optional_type(xml.type_name.as_ref()).map(Shape::Of)
            }
            NodeEnum::JsonParseExpr(_)
            | NodeEnum::JsonScalarExpr(_)
            | NodeEnum::JsonSerializeExpr(_)
            | NodeEnum::JsonFuncExpr(_)
            | NodeEnum::JsonObjectConstructor(_)
            | NodeEnum::JsonArrayConstructor(_)
            | NodeEnum::JsonArrayQueryConstructor(_)
            | NodeEnum::JsonObjectAgg(_)
            | NodeEnum::JsonArrayAgg(_)
            | NodeEnum::JsonIsPredicate(_)
            | NodeEnum::JsonKeyValue(_)
            | NodeEnum::JsonValueExpr(_)
            | NodeEnum::JsonArgument(_) => self.json(node).map(|()| SOME),
            _ => Err(unknown_node("an expression")),
        }
    }

    /// Operators, also those that syntax hides.
    ///
    /// # Source
    /// `AEXPR_*` in `transformExprRecurse`; `transformAExprBetween` for the names that BETWEEN stands for.
    fn operation(&mut self, expression: &AExpr) -> Result<Shape, SqlRefusal> {
        for operand in [&expression.lexpr, &expression.rexpr] {
            self.optional(operand.as_deref())?;
        }
        match AExprKind::try_from(expression.kind) {
            Ok(AExprKind::AexprBetween | AExprKind::AexprBetweenSym) => {
                self.operator(&[">="])?;
                self.operator(&["<="])?;
            }
            Ok(AExprKind::AexprNotBetween | AExprKind::AexprNotBetweenSym) => {
                self.operator(&["<"])?;
                self.operator(&[">"])?;
            }
            Ok(
                AExprKind::AexprOp
                | AExprKind::AexprOpAny
                | AExprKind::AexprOpAll
                | AExprKind::AexprDistinct
                | AExprKind::AexprNotDistinct
                | AExprKind::AexprNullif
                | AExprKind::AexprIn
                | AExprKind::AexprLike
                | AExprKind::AexprIlike
                | AExprKind::AexprSimilar,
            ) => self.operator(&strings(&expression.name)?)?,
            Ok(AExprKind::Undefined) | Err(_) => return Err(unknown_node("an operator")),
        }
        Ok(SOME)
    }

    /// An operator by name: the functions behind all that it may mean.
    pub(super) fn operator(&mut self, name: &[&str]) -> Result<(), SqlRefusal> {
        // Its parts are names, which have no NUL.
        let written = name.join("\0");
        if self.met.operators.contains(&written) {
            return Ok(());
        }
        let call = self.names.operator(name)?;
        if call.nature == Nature::Unknown {
            return Err(unknown("42883", format!("operator does not exist: {}", name.join("."))));
        }
        self.call_unseen(&call)?;
        self.casts_to_arguments(&call)?;
        self.met.operators.insert(written);
        Ok(())
    }

    /// What is given to a function is cast to what it takes: only types that are somebody's have casts of somebody.
    pub(super) fn casts_to_arguments(&mut self, call: &Call) -> Result<(), SqlRefusal> {
        let candidates = call.candidates.iter().chain(&call.harmless);
        let types: std::collections::BTreeSet<u32> =
            candidates.flat_map(|candidate| candidate.function.argument_types.iter().copied()).collect();
        types.into_iter().try_for_each(|type_oid| self.implicit_casts(&Shape::Of(type_oid)))
    }

    fn case(&mut self, case: &CaseExpr) -> Result<Shape, SqlRefusal> {
        if let Some(argument) = &case.arg {
            self.value(argument)?;
            self.operator(&["="])?;
        }
        for when in &case.args {
            let Some(NodeEnum::CaseWhen(when)) = &when.node else { return Err(unknown_node("a CASE")) };
            self.optional(when.expr.as_deref())?;
            self.optional(when.result.as_deref())?;
        }
        self.optional(case.defresult.as_deref())?;
        Ok(SOME)
    }

    fn sub_link(&mut self, link: &SubLink) -> Result<Shape, SqlRefusal> {
        self.optional(link.testexpr.as_deref())?;
        if !link.oper_name.is_empty() {
            self.operator(&strings(&link.oper_name)?)?;
        } else if link.sub_link_type() == SubLinkType::AnySublink {
            self.operator(&["="])?;
        }
        let Some(NodeEnum::SelectStmt(select)) = link.subselect.as_ref().and_then(|node| node.node.as_ref()) else {
            return Err(unknown_node("a subquery"));
        };
        let outcome = self.select(select, None)?;
        if let Some(first) = outcome.columns.first() {
            self.labels.insert(label::place(link), std::sync::Arc::clone(&first.name));
        }
        let compared = matches!(
            link.sub_link_type(),
            SubLinkType::AnySublink
                | SubLinkType::AllSublink
                | SubLinkType::RowcompareSublink
                // Its elements are values that something is done with.
                | SubLinkType::ArraySublink
        );
        if compared || link.sub_link_type() == SubLinkType::MultiexprSublink || outcome.columns.len() > 1 {
            for column in outcome.columns.iter().filter(|_| link.sub_link_type() != SubLinkType::ExistsSublink) {
                self.implicit_casts(&Shape::Of(column.type_oid))?;
            }
        }
        match (link.sub_link_type(), outcome.columns.as_slice(), outcome.open) {
            (SubLinkType::ExprSublink, [column], false) => Ok(Shape::Of(column.type_oid)),
            _ => Ok(SOME),
        }
    }

    fn xml(&mut self, xml: &XmlExpr) -> Result<Shape, SqlRefusal> {
        for argument in &xml.named_args {
            let Some(NodeEnum::ResTarget(argument)) = &argument.node else {
                return Err(unknown_node("an XML function"));
            };
            self.optional(argument.val.as_deref())?;
        }
        self.values(&xml.args)
    }

    /// ORDER BY inside of calls and windows: expressions only, no names of output columns.
    pub(super) fn sort_expressions(&mut self, clause: &[Node]) -> Result<(), SqlRefusal> {
        for sort in clause {
            let Some(NodeEnum::SortBy(sort)) = &sort.node else { return Err(unknown_node("an ORDER BY")) };
            self.optional_bare(sort.node.as_deref())?;
            self.sort_operator(sort)?;
        }
        Ok(())
    }

    /// ORDER BY … USING.
    pub(super) fn sort_operator(&mut self, sort: &SortBy) -> Result<(), SqlRefusal> {
        if sort.use_op.is_empty() { Ok(()) } else { self.operator(&strings(&sort.use_op)?) }
    }

    /// WINDOW and OVER.
    pub(super) fn window(&mut self, window: &WindowDef) -> Result<(), SqlRefusal> {
        self.values(&window.partition_clause)?;
        self.sort_expressions(&window.order_clause)?;
        self.optional(window.start_offset.as_deref())?;
        self.optional(window.end_offset.as_deref())?;
        Ok(())
    }
}

/// # Source
/// `make_const` in `src/backend/parser/parse_node.c`: strings are of no type yet.
fn constant_type(constant: &AConst) -> u32 {
    match &constant.val {
        Some(Val::Ival(_)) => 23,
        Some(Val::Fval(_)) => 1700,
        Some(Val::Boolval(_)) => 16,
        Some(Val::Bsval(_)) => 1560,
        Some(Val::Sval(_)) | None => 0,
    }
}

/// The string that an expression is, if it is one: `'x'`, also `'x'::text`.
pub(super) fn constant_string(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            Val::Sval(text) => Some(&text.sval),
            _ => None,
        },
        _ => None,
    }
}
