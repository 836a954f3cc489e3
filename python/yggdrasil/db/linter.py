"""The catalog linter: the rules of the schema, asked of the live catalog. One finding fails the build.

Row security has holes by design: keys and foreign keys bypass it, owners and SECURITY DEFINER bypass it, a
grant
to PUBLIC or a forgotten table undoes it. Every rule here closes one, and tests/db/test_linter.py opens each
on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from yggdrasil.db.address import Address, Login, connect
from yggdrasil.db.migrate import MAIN_OWNER, MAIN_ROLES, MIMIR_OWNER, MIMIR_ROLES


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One broken rule at one object."""

    rule: str
    object: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.object}: {self.detail}"


@dataclass(frozen=True, slots=True)
class House:
    """What a database may consist of.

    `tenant` names the schema whose keys start with network_id ("" for none).
    """

    schemas: tuple[str, ...]
    owner: str
    roles: tuple[str, ...]
    tenant: str = ""
    reader: str = ""
    """The role that may read every table ("" for none)."""


MAIN_HOUSE: Final = House(
    ("tenant", "identity", "platform", "jobs"), MAIN_OWNER, MAIN_ROLES, "tenant", "ygg_system"
)
MIMIR_HOUSE: Final = House(("vault", "platform"), MIMIR_OWNER, MIMIR_ROLES)

# Each query reads its parameters from `p` (schemas, owner, roles, tenant, reader) and gives (object, detail).
_PARAMETERS: Final = """
    WITH p AS (
        SELECT $1::text[] AS schemas, $2::text AS owner, $3::text[] AS roles, $4::text AS tenant, $5::text AS
        reader
    ), tables AS (
        SELECT c.oid, c.relname, n.nspname, n.nspname || '.' || c.relname AS name, c.relrowsecurity,
               c.relforcerowsecurity, c.relacl, c.relowner, c.relpersistence
        FROM p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (p.schemas) AND c.relkind IN ('r', 'p')
    ), columns AS (
        -- Of a domain, the type below it: what holds for a column holds for it.
        SELECT t.name, t.oid, t.nspname, a.attname, a.attnum, a.attidentity, a.attnotnull, a.attacl,
               format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL) AS type, y.oid AS type_oid
        FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_type y ON y.oid = a.atttypid
    ), grants AS (
        SELECT t.name, t.oid, g.grantee, coalesce(r.rolname, 'PUBLIC') AS role, g.privilege_type AS verb
        FROM tables t, aclexplode(t.relacl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
        UNION
        SELECT c.name, c.oid, g.grantee, coalesce(r.rolname, 'PUBLIC'), g.privilege_type
        FROM columns c, aclexplode(c.attacl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
    ), policies AS (
        SELECT t.name, t.oid, t.nspname, pol.polname, pol.polpermissive,
               pg_get_expr(pol.polqual, pol.polrelid) AS using_, pg_get_expr(pol.polwithcheck, pol.polrelid)
               AS check_,
               CASE pol.polcmd WHEN 'r' THEN ARRAY['SELECT'] WHEN 'a' THEN ARRAY['INSERT'] WHEN 'w' THEN
               ARRAY['UPDATE']
                    WHEN 'd' THEN ARRAY['DELETE'] ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END AS
                    verbs,
               ARRAY(SELECT coalesce(r.rolname, 'PUBLIC')::text
                     FROM unnest(pol.polroles) o LEFT JOIN pg_roles r ON r.oid = o) AS to_roles
        FROM tables t JOIN pg_policy pol ON pol.polrelid = t.oid
    )
"""

RULES: Final[dict[str, str]] = {
    "row-security": """
        SELECT name, CASE WHEN relrowsecurity THEN 'row security is not forced' ELSE 'row security is off' END
        FROM tables WHERE NOT (relrowsecurity AND relforcerowsecurity)""",
    "policy-public": """
        SELECT name, 'policy ' || polname || ' is for PUBLIC' FROM policies WHERE 'PUBLIC' = ANY
        (to_roles)""",
    "policy-check": """
        SELECT name, 'policy ' || polname || ' writes without WITH CHECK' FROM policies
        WHERE verbs && ARRAY['INSERT', 'UPDATE'] AND check_ IS NULL""",
    "policy-unscoped": """
        SELECT name, 'policy ' || polname || ' for ' || of.role || ' does not ask for the scope'
        FROM p, policies CROSS JOIN unnest(to_roles) AS of (role)
        WHERE nspname = p.tenant AND polpermissive AND of.role IN ('ygg_network', 'ygg_identity',
        'ygg_settle')
          AND (coalesce(using_, check_) !~ 'current_(network|networks|user_id)\\(\\)'
               OR coalesce(check_, using_) !~ 'current_(network|networks|user_id)\\(\\)')""",
    "grant-public": """
        SELECT name, verb || ' is granted to PUBLIC' FROM grants WHERE role = 'PUBLIC'
        UNION ALL
        SELECT n.nspname, g.privilege_type || ' on the schema is granted to PUBLIC'
        FROM p, pg_namespace n, aclexplode(n.nspacl) g WHERE n.nspname = ANY (p.schemas) AND g.grantee = 0
        UNION ALL
        SELECT n.nspname || '.' || f.proname, 'EXECUTE is granted to PUBLIC'
        FROM p, pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace,
             aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) g
        WHERE n.nspname = ANY (p.schemas) AND g.grantee = 0""",
    "grant-verb": """
        SELECT name, verb || ' is granted to ' || role FROM p, grants
        WHERE role <> p.owner AND (verb NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') OR role <> ALL
        (p.roles))
          AND role <> 'PUBLIC'""",
    "grant-without-policy": """
        SELECT name, verb || ' is granted to ' || role || ', but no policy lets it: it would find nothing,
        silently'
        FROM p, grants WHERE role = ANY (p.roles) AND verb IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
          AND NOT EXISTS (SELECT FROM policies q WHERE q.oid = grants.oid AND role = ANY (q.to_roles) AND verb
          = ANY (q.verbs))""",
    "policy-without-grant": """
        SELECT name, 'policy ' || polname || ' is for ' || of.role || ', which has no grant here'
        FROM p, policies CROSS JOIN unnest(to_roles) AS of (role)
        WHERE of.role <> p.owner AND of.role <> 'PUBLIC' AND NOT EXISTS (
            SELECT FROM grants g WHERE g.oid = policies.oid AND g.role = of.role AND g.verb = ANY (verbs))""",
    "system-reads-all": """
        SELECT name, p.reader || ' cannot read all of it' FROM p, tables t
        WHERE p.reader <> '' AND NOT (
            EXISTS (SELECT FROM grants g WHERE g.oid = t.oid AND g.role = p.reader AND g.verb = 'SELECT')
            AND EXISTS (SELECT FROM policies q WHERE q.oid = t.oid AND p.reader = ANY (q.to_roles)
                        AND 'SELECT' = ANY (q.verbs) AND q.using_ = 'true'))""",
    "primary-key": """
        SELECT name, 'has no primary key' FROM tables t
        WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p')""",
    "tenant-key": """
        SELECT t.name, i.indexrelid::regclass || ' is unique and does not start with network_id: it would tell
        what others have'
        FROM p, tables t JOIN pg_index i ON i.indrelid = t.oid AND (i.indisunique OR i.indisexclusion)
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
        WHERE t.nspname = p.tenant AND a.attname IS DISTINCT FROM 'network_id'
        UNION ALL
        SELECT t.name, k.conname || ' is a foreign key that does not go from network_id to network_id'
        FROM p, tables t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.conkey[1]
        LEFT JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
        WHERE t.nspname = p.tenant AND (a.attname, b.attname) IS DISTINCT FROM ('network_id'::name,
        'network_id'::name)
        UNION ALL
        SELECT t.name, 'has no column network_id uuid NOT NULL' FROM p, tables t
        WHERE t.nspname = p.tenant AND NOT EXISTS (SELECT FROM columns c
            WHERE c.oid = t.oid AND c.attname = 'network_id' AND c.type = 'uuid' AND c.attnotnull)""",
    "foreign-schema": """
        SELECT t.name, k.conname || ' points into another schema' FROM tables t
        JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' JOIN pg_class o ON o.oid = k.confrelid
        JOIN pg_namespace n ON n.oid = o.relnamespace WHERE n.nspname <> t.nspname""",
    "generated": """
        SELECT name || '.' || attname, 'is an identity column: ids are made by the application'
        FROM columns WHERE attidentity <> ''
        UNION ALL
        SELECT c.name || '.' || c.attname, 'has the default ' || pg_get_expr(d.adbin, d.adrelid)
        FROM columns c JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = c.attnum
        WHERE pg_get_expr(d.adbin, d.adrelid) ~*
        '(now|timestamp|uuid|nextval|random|timeofday)\\s*\\(|CURRENT_|LOCALTIME'
        UNION ALL
        SELECT n.nspname || '.' || s.relname, 'is a sequence: its numbers tell how many others made'
        FROM p, pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace
        WHERE n.nspname = ANY (p.schemas) AND s.relkind = 'S'""",
    "type": """
        SELECT name || '.' || attname, 'is ' || type || '; use ' || CASE
               WHEN type LIKE 'timestamp without%' OR type LIKE 'time %' THEN 'timestamptz'
               WHEN type IN ('money', 'real', 'double precision', 'numeric') AND attname ~ 'cents' THEN
               'bigint'
               WHEN type = 'money' THEN 'bigint' WHEN type = 'json' THEN 'jsonb' ELSE 'text with a CHECK' END
        FROM columns WHERE type IN ('money', 'json', 'timestamp without time zone', 'time without time zone',
                                    'time with time zone', 'character varying', 'character')
           OR (attname ~ 'cents' AND type <> 'bigint')
        UNION ALL
        SELECT n.nspname || '.' || y.typname, 'is an enum type; use text with a CHECK'
        FROM p, pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
        WHERE n.nspname = ANY (p.schemas) AND y.typtype = 'e'""",
    "unlimited": """
        SELECT name || '.' || attname, type || ' without a CHECK on its length' FROM columns c
        WHERE type IN ('text', 'bytea', 'jsonb', 'text[]', 'uuid[]', 'bytea[]') AND NOT EXISTS (
            SELECT FROM pg_constraint k CROSS JOIN LATERAL (
                SELECT CASE WHEN k.contypid = c.type_oid THEN 'VALUE' ELSE quote_ident(c.attname) END,
                       pg_get_constraintdef(k.oid)
            ) AS of (written, rule)
            WHERE k.contype = 'c'
              AND (k.contypid = c.type_oid OR (k.conrelid = c.oid AND c.attnum = ANY (k.conkey)))
              AND (rule ~ ('(length|octet_length|cardinality|array_length|pg_column_size)\\(\\(*' || written)
                   OR (c.type = 'text' AND rule ~
                       ('\\(*' || written || '\\)* = (ANY|''|\\(''|\\(ANY)'))))""",
    "deferrable": """
        SELECT t.name, k.conname || ' is deferrable' FROM tables t
        JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.condeferrable""",
    "unlogged": """
        SELECT name, 'is not logged: it is empty after a crash' FROM tables WHERE relpersistence <> 'p'""",
    "definer": """
        SELECT n.nspname || '.' || f.proname, 'runs as its owner (SECURITY DEFINER)'
        FROM p, pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
        WHERE n.nspname = ANY (p.schemas || ARRAY['public']) AND f.prosecdef""",
    "search-path": """
        SELECT n.nspname || '.' || f.proname, 'is a procedural function without a fixed search_path'
        FROM p, pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
        JOIN pg_language l ON l.oid = f.prolang WHERE n.nspname = ANY (p.schemas) AND l.lanname = 'plpgsql'
        AND NOT EXISTS (
            SELECT FROM unnest(f.proconfig) AS s (setting)
            WHERE setting = 'search_path=pg_catalog, pg_temp')""",
    "view": """
        SELECT n.nspname || '.' || v.relname, CASE v.relkind WHEN 'm' THEN 'is a materialized view: no row
        security'
               ELSE 'is a view without security_invoker: it reads as its owner' END
        FROM p, pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace
        WHERE n.nspname = ANY (p.schemas || ARRAY['public']) AND (v.relkind = 'm' OR (v.relkind = 'v'
          AND NOT coalesce('security_invoker=true' = ANY (v.reloptions) OR 'security_invoker=on' = ANY
          (v.reloptions), false)))""",
    "owner": """
        SELECT name, 'is owned by ' || r.rolname FROM p, tables t JOIN pg_roles r ON r.oid = t.relowner
        WHERE r.rolname <> p.owner""",
    "role": """
        SELECT r.rolname, 'is superuser, bypasses row security, or may make roles or databases'
        FROM p, pg_roles r WHERE r.rolname = ANY (p.roles || p.owner)
          AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
        UNION ALL
        SELECT r.rolname, 'is a member of ' || g.rolname FROM p, pg_auth_members m
        JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = ANY (p.roles
        || p.owner)""",
    "stray": """
        SELECT n.nspname || '.' || c.relname, 'lies outside the schemas of this house'
        FROM p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> ALL (p.schemas) AND n.nspname <>
        'information_schema'
          AND n.nspname !~ '^pg_'
        UNION ALL
        SELECT extname, 'is an extension: plain PostgreSQL only' FROM pg_extension WHERE extname <>
        'plpgsql'""",
}


async def lint(address: Address, login: Login, house: House) -> list[Finding]:
    """All findings, sorted. `login` may be any role: the catalog is open to read; nothing is changed."""
    connection = await connect(address, login)
    try:
        findings: list[Finding] = []
        for rule, sql in RULES.items():
            rows = await connection.fetch(
                _PARAMETERS + sql,
                list(house.schemas),
                house.owner,
                list(house.roles),
                house.tenant,
                house.reader,
            )
            findings += [Finding(rule, row[0], row[1]) for row in rows]
    finally:
        await connection.close()
    return sorted(set(findings))
