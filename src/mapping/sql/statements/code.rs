//! What makes the server run code: functions, triggers, rules, policies, DO, CALL.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterPolicyStmt, CallStmt, CreateFunctionStmt, CreatePolicyStmt, CreateTrigStmt, FunctionParameterMode, RuleStmt,
};

use super::super::SqlRefusal;
use super::super::asked::unknown;
use super::super::catalog::{Function, FunctionKind, Volatility};
use super::super::names::{Call, Nature};
use super::{After, Judge, incomplete, nodes, object};

impl Judge<'_, '_> {
    /// Defining code is running it: whoever comes by runs it with its own rights.
    pub(super) fn defines_code(&mut self) {
        self.walk.asked.on_database("sql:ExecuteCode", Vec::new());
    }

    pub(super) fn do_block(&mut self) -> &'static str {
        self.defines_code();
        self.walk.asked.literals_matter();
        self.walk.asked.effects_mut().anything = true;
        self.after = After::Unknown;
        "do"
    }

    pub(super) fn call(&mut self, call: &CallStmt) -> Result<&'static str, SqlRefusal> {
        let called = call.funccall.as_deref().ok_or_else(incomplete)?;
        let name = nodes::parts(&called.funcname)?;
        let meant = self.names().call(&name, called.args.len())?;
        if meant.nature == Nature::Unknown {
            return Err(unknown("42883", format!("procedure {} does not exist", nodes::written(&name))));
        }
        self.walk.asked.execute(&meant.candidates);
        self.walk.arguments(&meant, &called.args)?;
        // Only aggregates have these: the server refuses them.
        if !called.agg_order.is_empty() || called.agg_filter.is_some() || called.over.is_some() {
            return Err(incomplete());
        }
        self.after = After::Unknown;
        Ok("call")
    }

    pub(super) fn create_function(&mut self, create: &CreateFunctionStmt) -> Result<&'static str, SqlRefusal> {
        let parts = nodes::parts(&create.funcname)?;
        let (schema, name) = self.to_create(&parts)?;
        let (kind, object_type) = match create.is_procedure {
            true => (FunctionKind::Procedure, "procedure"),
            false => (FunctionKind::Function, "function"),
        };
        self.walk.asked.on_schema("sql:Create", &schema, object(object_type, name));
        if create.replace {
            let there = self.names().functions_named(&[&schema, name]).unwrap_or_default();
            for known in there {
                self.walk.asked.on_function("sql:Alter", &known.schema, &known.name);
            }
        }
        self.defines_code();
        let function = self.function_of(create, kind)?;
        self.defines(After::Function(schema, name.into(), function));
        Ok("create_function")
    }

    fn function_of(&mut self, create: &CreateFunctionStmt, kind: FunctionKind) -> Result<Function, SqlRefusal> {
        let mut function = Function {
            oid: 0,
            kind,
            volatility: Volatility::Volatile,
            arguments_least: 0,
            arguments_most: Some(0),
            argument_types: Vec::new(),
            returns: 0,
            output_names: Vec::new(),
        };
        for parameter in &create.parameters {
            let NodeEnum::FunctionParameter(parameter) = nodes::inner(Some(parameter))? else {
                return Err(incomplete());
            };
            if let Some(default) = &parameter.defexpr {
                self.stored(|walk| walk.expression(default))?;
            }
            let mode = FunctionParameterMode::try_from(parameter.mode).unwrap_or(FunctionParameterMode::Undefined);
            match mode {
                FunctionParameterMode::FuncParamOut | FunctionParameterMode::FuncParamTable => {}
                FunctionParameterMode::FuncParamVariadic => function.arguments_most = None,
                _ => {
                    function.arguments_most = function.arguments_most.map(|most| most.saturating_add(1));
                    if parameter.defexpr.is_none() {
                        function.arguments_least = function.arguments_least.saturating_add(1);
                    }
                }
            }
            let is_output = matches!(
                mode,
                FunctionParameterMode::FuncParamOut
                    | FunctionParameterMode::FuncParamInout
                    | FunctionParameterMode::FuncParamTable
            );
            if is_output {
                function.output_names.push(parameter.name.as_str().into());
            }
        }
        if kind == FunctionKind::Procedure {
            // CALL counts the OUT arguments too.
            function.arguments_most = None;
        }
        Ok(function)
    }

    /// PostgreSQL asks for EXECUTE on the function when the trigger is made, not when it fires.
    pub(super) fn create_trigger(&mut self, create: &CreateTrigStmt) -> Result<&'static str, SqlRefusal> {
        let relation = self.range(create.relation.as_ref())?;
        self.walk.asked.on_relation("sql:Create", &relation, object("trigger", &create.trigname));
        self.executes(&nodes::parts(&create.funcname)?)?;
        if let Some(other) = &create.constrrel {
            let other = self.relation(other)?;
            self.walk.asked.write("sql:Alter", &other, []);
        }
        self.defines_code();
        self.defines(After::Nothing);
        Ok("create_trigger")
    }

    /// `sql:Execute` on every function that a definition names, whatever it is known for.
    pub(super) fn executes(&mut self, name: &[&str]) -> Result<(), SqlRefusal> {
        let call: Call = self.names().call(name, 0)?;
        // A harmless one asks nothing and is no candidate: `suppress_redundant_updates_trigger`.
        if call.nature == Nature::Unknown {
            return Err(unknown("42883", format!("function {}() does not exist", nodes::written(name))));
        }
        for candidate in call.foreign() {
            let (schema, name) = (Arc::clone(&candidate.schema), Arc::clone(&candidate.name));
            self.walk.asked.on_function("sql:Execute", &schema, &name);
        }
        Ok(())
    }

    /// The actions of a rule speak of `new` and `old`, and run with the owner's rights whenever the table is used: `sql:ExecuteCode` stands for
    /// all of them.
    pub(super) fn create_rule(&mut self, rule: &RuleStmt) -> Result<&'static str, SqlRefusal> {
        let relation = self.range(rule.relation.as_ref())?;
        self.walk.asked.on_relation("sql:Create", &relation, object("rule", &rule.rulename));
        self.defines_code();
        self.defines(After::Unknown);
        Ok("create_rule")
    }

    pub(super) fn create_policy(&mut self, policy: &CreatePolicyStmt) -> Result<&'static str, SqlRefusal> {
        let relation = self.range(policy.table.as_ref())?;
        self.walk.asked.on_relation("sql:Create", &relation, object("policy", &policy.policy_name));
        for expression in [&policy.qual, &policy.with_check].into_iter().flatten() {
            self.stored(|walk| walk.expression_about(expression, &relation))?;
        }
        self.defines_code();
        self.defines(After::Nothing);
        Ok("create_policy")
    }

    pub(super) fn alter_policy(&mut self, policy: &AlterPolicyStmt) -> Result<&'static str, SqlRefusal> {
        let relation = self.range(policy.table.as_ref())?;
        self.walk.asked.on_relation("sql:Alter", &relation, object("policy", &policy.policy_name));
        for expression in [&policy.qual, &policy.with_check].into_iter().flatten() {
            self.stored(|walk| walk.expression_about(expression, &relation))?;
        }
        self.defines_code();
        self.defines(After::Nothing);
        Ok("alter_policy")
    }
}
