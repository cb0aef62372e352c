"""Run by Alembic: upgrades the database of the connection that it was handed."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    # A revision is applied whole or not at all, on SQLite too.
    transactional_ddl=True,
)
context.run_migrations()
