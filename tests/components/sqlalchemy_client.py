"""SQLAlchemy, told what to do: see psycopg_client.py for order and results. Its driver is psycopg 3."""

import json
import sys
from decimal import Decimal

import sqlalchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Person(Base):
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    ssn: Mapped[str | None] = mapped_column(deferred=True)


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[int] = mapped_column(sqlalchemy.ForeignKey("people.id"))
    amount: Mapped[Decimal]


def told(error: sqlalchemy.exc.DBAPIError) -> dict:
    diag = getattr(error.orig, "diag", None)
    return {
        "sqlstate": getattr(error.orig, "sqlstate", None),
        "message": (diag.message_primary if diag else None) or str(error.orig),
        "detail": diag.message_detail if diag else None,
    }


def inspect(engine, step):
    inspector = sqlalchemy.inspect(engine)
    schema = step.get("schema")
    tables = {}
    for table in sorted(inspector.get_table_names(schema=schema)):
        tables[table] = {
            "columns": [column["name"] for column in inspector.get_columns(table, schema=schema)],
            "primary_key": inspector.get_pk_constraint(table, schema=schema)["constrained_columns"],
            "foreign_keys": [key["referred_table"] for key in inspector.get_foreign_keys(table, schema=schema)],
            "indexes": sorted(index["name"] for index in inspector.get_indexes(table, schema=schema)),
            "checks": [check["name"] for check in inspector.get_check_constraints(table, schema=schema)],
        }
    return {
        "schemas": sorted(inspector.get_schema_names()),
        "tables": tables,
        "views": sorted(inspector.get_view_names(schema=schema)),
        "materialized_views": sorted(inspector.get_materialized_view_names(schema=schema)),
        "sequences": sorted(inspector.get_sequence_names(schema=schema)),
    }


def insert(engine, step):
    with Session(engine) as session:
        session.add_all([Person(**person) for person in step["people"]])
        session.flush()
        session.add_all([Order(**order) for order in step.get("orders", [])])
        session.commit()
    return {}


def people(engine, step):
    with Session(engine) as session:
        found = session.scalars(sqlalchemy.select(Person).order_by(Person.id)).all()
        return {"rows": [[str(person.id), person.name] for person in found]}


def joined(engine, step):
    query = sqlalchemy.select(Person.name, Order.amount).join(Order, Order.customer == Person.id).order_by(Order.id)
    with Session(engine) as session:
        return {"rows": [[name, str(amount)] for name, amount in session.execute(query)]}


def deferred(engine, step):
    """Loads a column that the entity left out: the ORM's own second query."""
    with Session(engine) as session:
        return {"ssn": session.get_one(Person, step["id"]).ssn}


def remove(engine, step):
    with Session(engine) as session:
        session.delete(session.get_one(Person, step["id"]))
        session.commit()
    return {}


def reflect(engine, step):
    metadata = sqlalchemy.MetaData()
    metadata.reflect(engine, schema=step.get("schema"), views=True)
    return {"tables": sorted(metadata.tables)}


STEPS = {step.__name__: step for step in (inspect, insert, people, joined, deferred, remove, reflect)}


def main() -> None:
    order = json.load(sys.stdin)
    connect = order["connect"]
    url = sqlalchemy.URL.create(
        "postgresql+psycopg",
        username=connect["user"],
        password=connect.get("password"),
        host=connect["host"],
        port=connect["port"],
        database=connect["dbname"],
    )
    engine = sqlalchemy.create_engine(url)
    results = []
    for step in order["steps"]:
        try:
            results.append(STEPS[step["do"]](engine, step))
        except sqlalchemy.exc.DBAPIError as error:
            results.append({"error": told(error)})
    engine.dispose()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
