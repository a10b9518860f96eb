"""How alembic runs here: on the connection that `Database.migrate` hands over, inside its transaction."""

from alembic import context

from paperworks.hub.store.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
    include_name=lambda name, kind, _parents: kind != "table" or not str(name).startswith("paper_fts"),
)
context.run_migrations()
