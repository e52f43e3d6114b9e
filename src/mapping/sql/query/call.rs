//! Function calls.

use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node};

use crate::mapping::Value;
use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::{refused, unknown};
use crate::mapping::sql::catalog::is_built_in;
use crate::mapping::sql::names::{Call, Nature};

use super::expression::constant_string;
use super::scope::{ANY, Field, Shape};
use super::{Walk, strings, unknown_node};

/// A call that was walked.
pub(super) struct Called {
    /// What the name may mean; nothing if it was a field or a cast.
    pub(super) call: Option<Call>,
    /// What it gives.
    pub(super) shape: Shape,
}

impl Walk<'_, '_> {
    /// A function, aggregate or window function with everything that stands in and around its parentheses.
    ///
    /// # Source
    /// `transformFuncCall` in `src/backend/parser/parse_expr.c`, `ParseFuncOrColumn` in `parse_func.c`.
    pub(super) fn function(&mut self, call: &FuncCall) -> Result<Called, SqlRefusal> {
        let name = self.function_name(&call.funcname)?;
        // The sorted arguments of an ordered-set aggregate are arguments like the others.
        let sorted = if call.agg_within_group { call.agg_order.len() } else { 0 };
        let meaning = self.names.call(&name, call.args.len() + sorted)?;
        match meaning.nature {
            Nature::Sequence => self.sequence(call, name.last().copied().unwrap_or_default())?,
            Nature::Setting => {
                self.values(&call.args)?;
                self.set_config(call)?;
            }
            Nature::Notify => {
                self.values(&call.args)?;
                let channel = call.args.first().and_then(constant_string);
                let context = channel.map(|channel| ("channel", Value::from(channel)));
                self.asked.on_database("sql:Notify", context.into_iter().collect());
                self.asked.literals_matter();
            }
            Nature::Unknown => return self.field_or_cast(call, &name),
            _ => {
                self.values(&call.args)?;
                self.asked.call(&meaning)?;
                self.casts_to_arguments(&meaning)?;
            }
        }
        self.around(call)?;
        self.older_meaning(call)?;
        if let ([_], Ok(_)) = (call.args.as_slice(), self.names.type_named(&name)) {
            // `citext(x)` may be a cast as well.
            self.cast_to_named(&name)?;
        }
        let shape = Shape::Of(Self::returned_type(&meaning));
        Ok(Called { call: Some(meaning), shape })
    }

    /// What stands behind the arguments.
    fn around(&mut self, call: &FuncCall) -> Result<(), SqlRefusal> {
        self.sort_expressions(&call.agg_order)?;
        self.optional(call.agg_filter.as_deref())?;
        call.over.as_deref().map_or(Ok(()), |window| self.window(window))
    }

    /// A name that is no function's: a field of a row in the notation of a call, or a cast.
    fn field_or_cast(&mut self, call: &FuncCall, name: &[&str]) -> Result<Called, SqlRefusal> {
        let missing = || unknown("42883", format!("function {} does not exist", name.join(".")));
        let [argument] = call.args.as_slice() else { return Err(missing()) };
        let shape = self.value(argument)?;
        self.around(call)?;
        let field = match name {
            [name] => self.field(&shape, name),
            _ => Field::No,
        };
        if let Field::Of(type_oid) = field {
            return Ok(Called { call: None, shape: Shape::Of(type_oid) });
        }
        if self.names.type_named(name).is_err() {
            return Err(missing());
        }
        let type_oid = self.cast_to_named(name)?;
        Ok(Called { call: None, shape: Shape::Of(type_oid) })
    }

    /// Without the database in front, which can only be this one.
    fn function_name<'c>(&self, name: &'c [Node]) -> Result<Vec<&'c str>, SqlRefusal> {
        let name = strings(name)?;
        match name.as_slice() {
            [] => Err(unknown_node("a function's name")),
            [database, rest @ ..] if rest.len() == 2 => {
                if *database == self.names.database() {
                    Ok(rest.to_vec())
                } else {
                    Err(refused("cross-database", "a function is qualified by another database"))
                }
            }
            _ => Ok(name),
        }
    }

    /// What a call returns, if all that it may mean agree.
    pub(super) fn returned_type(call: &Call) -> u32 {
        let mut types = call.candidates.iter().chain(&call.harmless).map(|candidate| candidate.function.returns);
        let Some(first) = types.next() else { return 0 };
        if types.clone().all(|other| other == first) {
            return first;
        }
        // What polymorphic functions return is made of their arguments, which were asked about.
        if is_built_in(first) && types.all(is_built_in) { 0 } else { ANY }
    }

    /// A call whose arguments the text does not show: by operator, cast or field.
    pub(super) fn call_unseen(&mut self, call: &Call) -> Result<(), SqlRefusal> {
        self.asked.call(call)
    }

    /// `JSON_OBJECT(…)` is of the grammar since PostgreSQL 16; before, it is whatever function the path gives.
    fn older_meaning(&mut self, call: &FuncCall) -> Result<(), SqlRefusal> {
        let [schema, name] = call.funcname.as_slice() else { return Ok(()) };
        let is = |node: &Node, text: &str| matches!(&node.node, Some(NodeEnum::String(s)) if s.sval == text);
        if self.names.catalog().major >= 16 || !is(schema, "pg_catalog") || !is(name, "json_object") {
            return Ok(());
        }
        let meaning = self.names.call(&["json_object"], call.args.len())?;
        if meaning.nature == Nature::Unknown { Ok(()) } else { self.asked.call(&meaning) }
    }
}
