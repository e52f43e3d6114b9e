//! Fields of the syntax tree in which nothing can stand that asks anything.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;

/// Messages that parse analysis makes, or another parser: the walk refuses them as nodes that it does not know, and no field of a raw tree
/// is of these types.
const NEVER_RAW: &str = "OidList IntList TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr \
    DistinctExpr NullIfExpr ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType CoerceViaIO ArrayCoerceExpr \
    ConvertRowtypeExpr CollateExpr CaseTestExpr ArrayExpr RowCompareExpr JsonConstructorExpr JsonExpr JsonTablePathScan \
    JsonTableSiblingJoin MergeAction MergeSupportFunc SQLValueFunction SetToDefault CurrentOfExpr CoerceToDomain CoerceToDomainValue \
    NextValueExpr InferenceElem ReturningExpr TargetEntry FromExpr OnConflictExpr Query RangeTblEntry RangeTblFunction TableSampleClause \
    WithCheckOption WindowClause SetOperationStmt PartitionRangeDatum PLAssignStmt";

/// Fields that the grammar leaves empty: parse analysis fills them, or a server that reads its own catalogue. `xpr` of all messages is one.
const EMPTY: &str = "IntoClause.view_query GroupingFunc.refs RowExpr.colnames XmlExpr.arg_names JsonValueExpr.formatted_expr \
    ColumnDef.cooked_default ColumnDef.identity_sequence CommonTableExpr.ctecolnames CommonTableExpr.ctecoltypes \
    CommonTableExpr.ctecoltypmods CommonTableExpr.ctecolcollations Constraint.old_conpfeqop CreateStmt.constraints \
    CreateStmt.nnconstraints IndexStmt.exclude_op_names CallStmt.funcexpr CallStmt.outargs AlterOwnerStmt.relation";

/// Names, roles and aliases: strings, which the walk takes nothing but strings for, or looks up where they mean an object.
const NAMES: &str = "CreateTableAsStmt.into SelectStmt.into_clause SelectStmt.locking_clause Alias.colnames RangeVar.alias IntoClause.rel IntoClause.col_names SubLink.oper_name JoinExpr.using_clause \
    JoinExpr.join_using_alias JoinExpr.alias ColumnRef.fields A_Expr.name CollateClause.collname SortBy.use_op RangeSubselect.alias \
    RangeFunction.alias RangeTableFunc.alias RangeTableSample.method ColumnDef.coll_clause IndexElem.collation IndexElem.opclass \
    LockingClause.locked_rels PartitionElem.collation PartitionElem.opclass CTESearchClause.search_col_list CTECycleClause.cycle_col_list \
    CommonTableExpr.aliascolnames CommonTableExpr.search_clause CommonTableExpr.cycle_clause ReturningClause.options JsonTable.alias \
    AlterCollationStmt.collname AlterDomainStmt.type_name GrantStmt.privileges GrantStmt.grantees AccessPriv.cols \
    GrantRoleStmt.granted_roles GrantRoleStmt.grantee_roles AlterDefaultPrivilegesStmt.action CopyStmt.attlist CreateStmt.relation \
    Constraint.keys Constraint.including Constraint.fk_attrs Constraint.pk_attrs Constraint.fk_del_set_cols AlterTableMoveAllStmt.roles \
    ImportForeignSchemaStmt.table_list CreatePolicyStmt.roles AlterPolicyStmt.roles CreateTrigStmt.columns CreateTrigStmt.transition_rels \
    DropRoleStmt.roles CreateSeqStmt.sequence DefineStmt.defnames CreateDomainStmt.domainname CreateDomainStmt.coll_clause \
    CreateStatsStmt.defnames CreateStatsStmt.stat_types AlterStatsStmt.defnames CreateFunctionStmt.funcname AlterTypeStmt.type_name \
    CompositeTypeStmt.typevar CreateEnumStmt.type_name CreateEnumStmt.vals CreateRangeStmt.type_name AlterEnumStmt.type_name \
    ViewStmt.view ViewStmt.aliases VacuumRelation.va_cols ConstraintsSetStmt.constraints CreateConversionStmt.conversion_name \
    DropOwnedStmt.roles ReassignOwnedStmt.roles AlterTSDictionaryStmt.dictname AlterTSConfigurationStmt.cfgname \
    AlterTSConfigurationStmt.tokentype AlterTSConfigurationStmt.dicts PublicationTable.columns CreateSubscriptionStmt.publication \
    AlterSubscriptionStmt.publication AlterOpFamilyStmt.opfamilyname CreateOpFamilyStmt.opfamilyname CreateOpClassStmt.opclassname \
    CreateOpClassStmt.opfamilyname AlterSeqStmt.sequence";

/// Types: looked up, and asked for what a cast to them calls where there is one. What stands in them are constants and names.
const TYPES: &str = "TypeName.names TypeName.typmods TypeName.array_bounds TypeCast.type_name RangeFunction.coldeflist \
    RangeTableFuncCol.type_name ColumnDef.type_name XmlSerialize.type_name JsonOutput.type_name JsonFuncExpr.output \
    JsonTableColumn.type_name JsonParseExpr.output JsonScalarExpr.output JsonSerializeExpr.output JsonObjectConstructor.output \
    JsonArrayConstructor.output JsonArrayQueryConstructor.output JsonAggConstructor.output ObjectWithArgs.objargs \
    ObjectWithArgs.objfuncargs CreateStmt.of_typename CreateDomainStmt.type_name CreateFunctionStmt.return_type FunctionParameter.arg_type \
    CompositeTypeStmt.coldeflist PrepareStmt.argtypes";

/// Options and constants: the grammar takes no expressions there.
const CONSTANTS: &str = "IntoClause.options ColumnDef.fdwoptions IndexElem.opclassopts CTECycleClause.cycle_mark_value \
    CTECycleClause.cycle_mark_default JsonTablePathSpec.string JsonTable.pathspec JsonTableColumn.pathspec GrantRoleStmt.opt \
    AlterDefaultPrivilegesStmt.options CopyStmt.options VariableSetStmt.args CreateStmt.options Constraint.options \
    CreateTableSpaceStmt.options AlterTableSpaceOptionsStmt.options CreateExtensionStmt.options AlterExtensionStmt.options \
    CreateForeignServerStmt.options AlterForeignServerStmt.options CreateForeignTableStmt.options CreateUserMappingStmt.options \
    AlterUserMappingStmt.options ImportForeignSchemaStmt.options CreateTrigStmt.args CreateEventTrigStmt.whenclause \
    CreateRoleStmt.options AlterRoleStmt.options AlterRoleSetStmt.setstmt IndexStmt.options AlterStatsStmt.stxstattarget \
    TransactionStmt.options ViewStmt.options CreatedbStmt.options AlterDatabaseStmt.options AlterDatabaseSetStmt.setstmt \
    DropdbStmt.options AlterSystemStmt.setstmt ClusterStmt.params VacuumStmt.options ExplainStmt.options ReindexStmt.params \
    AlterTSDictionaryStmt.options CreatePublicationStmt.options AlterPublicationStmt.options CreateSubscriptionStmt.options \
    AlterSubscriptionStmt.options";

/// Statements that ask `sql:ExecuteCode` whatever stands in these.
const CODE: &str = "ReturnStmt.returnval CreateFdwStmt.func_options CreateFdwStmt.options AlterFdwStmt.func_options AlterFdwStmt.options \
    CreateAmStmt.handler_name CreateTrigStmt.when_clause CreatePLangStmt.plhandler CreatePLangStmt.plinline CreatePLangStmt.plvalidator \
    DefineStmt.args DefineStmt.definition CreateOpClassStmt.datatype CreateOpClassStmt.items CreateOpClassItem.name \
    CreateOpClassItem.order_family CreateOpClassItem.class_args CreateOpClassItem.storedtype AlterOpFamilyStmt.items \
    CreateFunctionStmt.options CreateFunctionStmt.sql_body AlterFunctionStmt.actions DoStmt.args AlterOperatorStmt.opername \
    AlterOperatorStmt.options AlterTypeStmt.options RuleStmt.where_clause RuleStmt.actions CreateRangeStmt.params \
    CreateConversionStmt.func_name CreateCastStmt.sourcetype CreateCastStmt.targettype CreateCastStmt.func CreateTransformStmt.type_name \
    CreateTransformStmt.fromsql CreateTransformStmt.tosql";

/// All of them.
pub(super) fn all(messages: &BTreeMap<String, Vec<(String, String)>>) -> BTreeSet<Place> {
    let place = |written: &str| {
        let (message, field) = written.split_once('.').unwrap();
        (message.to_owned(), field.to_owned())
    };
    let mut all: BTreeSet<Place> =
        [EMPTY, NAMES, TYPES, CONSTANTS, CODE].iter().flat_map(|list| list.split_whitespace()).map(place).collect();
    for (message, fields) in messages.iter().filter(|(message, _)| *message != "Node") {
        let never_raw = NEVER_RAW.split_whitespace().any(|name| name == message);
        let bearing = fields.iter().filter(|(field, kind)| {
            field == "xpr"
                || (never_raw
                    && (kind == "Node"
                        || matches!(
                            &**kind,
                            "Alias"
                                | "JsonBehavior"
                                | "FromExpr"
                                | "OnConflictExpr"
                                | "Query"
                                | "TableFunc"
                                | "TableSampleClause"
                                | "SelectStmt"
                        )))
        });
        all.extend(bearing.map(|(field, _)| (message.clone(), field.clone())));
    }
    all
}
