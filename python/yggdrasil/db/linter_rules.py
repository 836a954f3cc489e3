# ruff: noqa: E501  the SQL has its own lines
"""The rules of the catalog linter, one query each: (object, detail) for every break."""

from __future__ import annotations

from typing import Final

STATISTICS_VIEWS: Final = "^pg_(stat_|statio_|stats$|stats_|statistic$|statistic_|locks$|prepared_xacts$)"
"""Views of pg_catalog that tell what others do: rows, sizes, statements, locks."""
STATISTICS_FUNCTIONS: Final = "^pg_(stat_get_.*|lock_status|prepared_xact|(database|tablespace|relation|total_relation|table|indexes)_size)$"
"""Functions of pg_catalog that answer the same without the views."""

PARAMETERS: Final = """
    WITH p AS (
        SELECT $1::text[] AS schemas, $2::text AS owner, $3::text[] AS roles, $4::text AS tenant, $5::text AS reader,
               $6::text[] AS reach, $7::text[] AS open_policies, $8::text[] AS global_keys,
               $9::text[] AS scope_functions, $10::text AS setter,
               $11::text[] AS scope_readers
    ), tables AS (
        SELECT c.oid, c.relname, n.nspname, n.nspname || '.' || c.relname AS name, c.relrowsecurity,
               c.relforcerowsecurity, c.relacl, c.relowner, c.relpersistence, c.relispartition
        FROM p, pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY (p.schemas) AND c.relkind IN ('r', 'p')
    ), columns AS (
        -- Of a domain, the type below it: what holds for a column holds for it.
        SELECT t.name, t.oid, t.nspname, a.attname, a.attnum, a.attidentity, a.attnotnull, a.attacl, t.relowner,
               format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL) AS type, y.oid AS type_oid
        FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
            JOIN pg_type y ON y.oid = a.atttypid
    ), grants AS (
        SELECT t.name, t.oid, t.nspname, g.grantee, coalesce(r.rolname, 'PUBLIC') AS role, g.privilege_type AS verb,
               g.is_grantable, t.relowner
        FROM tables t, aclexplode(t.relacl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
        UNION
        SELECT c.name, c.oid, c.nspname, g.grantee, coalesce(r.rolname, 'PUBLIC'), g.privilege_type, g.is_grantable, c.relowner
        FROM columns c, aclexplode(c.attacl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
    ), policies AS (
        SELECT t.name, t.oid, t.nspname, pol.oid AS policy, pol.polname, pol.polpermissive, pol.polcmd,
               pg_get_expr(pol.polqual, pol.polrelid) AS using_,
               pg_get_expr(pol.polwithcheck, pol.polrelid) AS check_,
               CASE pol.polcmd WHEN 'r' THEN ARRAY['SELECT'] WHEN 'a' THEN ARRAY['INSERT']
                    WHEN 'w' THEN ARRAY['UPDATE'] WHEN 'd' THEN ARRAY['DELETE']
                    ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END AS verbs,
               ARRAY(SELECT coalesce(r.rolname, 'PUBLIC')::text
                     FROM unnest(pol.polroles) o LEFT JOIN pg_roles r ON r.oid = o) AS to_roles
        FROM tables t JOIN pg_policy pol ON pol.polrelid = t.oid
    ), ours AS (
        -- Every schema that is not PostgreSQL's.
        SELECT n.oid, n.nspname, n.nspowner, n.nspacl FROM pg_namespace n
        WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    ), functions AS (
        -- The body without comments and quoted text.
        SELECT f.oid, n.nspname, n.nspname || '.' || f.proname AS name, f.prosecdef, f.proconfig, f.proleakproof,
               f.proowner, coalesce(f.proacl, acldefault('f', f.proowner)) AS acl, l.lanname, f.prosqlbody,
               regexp_replace(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                              '--[^\\n]*|/\\*.*?\\*/|''[^'']*''', '', 'g') AS body
        FROM pg_proc f JOIN ours n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
    )
"""

_SCOPES: Final = "current_(network|networks|user_id)\\(\\)"
# As pg_get_expr writes it: alone, or the first of conjuncts. `(x OR y)` and `((x AND y) OR z)` do not begin so.
_IN_NETWORK: Final = (
    "^\\((\\()?network_id = (ANY \\(\\( SELECT platform\\.current_networks\\(\\) AS current_networks\\)::uuid\\[\\]\\)"
    "|\\( SELECT platform\\.current_network\\(\\) AS current_network\\))\\)( AND |$)"
)
# A login knows the person before the network: it reads and deletes his own rows in all of his, and writes in none.
_OF_PERSON: Final = (
    _IN_NETWORK
    + "|^\\((\\()?user_id = \\( SELECT platform\\.current_user_id\\(\\) AS current_user_id\\)\\)( AND |$)"
)

STATISTICS: Final = f"""
    SELECT c.oid, format('pg_catalog.%I', c.relname) AS name, false AS callable, c.relacl AS acl FROM pg_class c
    WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname ~ '{STATISTICS_VIEWS}' AND c.relkind IN ('v', 'r')
    UNION ALL
    SELECT f.oid, f.oid::regprocedure::text, true, coalesce(f.proacl, acldefault('f', f.proowner)) FROM pg_proc f
    WHERE f.pronamespace = 'pg_catalog'::regnamespace AND f.proname ~ '{STATISTICS_FUNCTIONS}'"""  # noqa: S608
"""All of them: (oid, name, callable, acl)."""

RULES: Final[dict[str, str]] = {
    "row-security": """
        SELECT name, CASE WHEN relrowsecurity THEN 'row security is not forced' ELSE 'row security is off' END
        FROM tables WHERE NOT (relrowsecurity AND relforcerowsecurity)""",
    "policy-public": """
        SELECT name, 'policy ' || polname || ' is for PUBLIC' FROM policies WHERE 'PUBLIC' = ANY (to_roles)""",
    "policy-check": """
        SELECT name, 'policy ' || polname || ' writes without WITH CHECK' FROM policies
        WHERE verbs && ARRAY['INSERT', 'UPDATE'] AND check_ IS NULL
        UNION ALL
        SELECT name, 'policy ' || polname || ' finds rows without USING' FROM policies
        WHERE polcmd <> 'a' AND using_ IS NULL""",
    "policy-unscoped": f"""
        SELECT name, 'policy ' || polname || ' for ' || of.role || ' does not ask for the scope'
        FROM p, policies CROSS JOIN unnest(to_roles) AS of (role)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN nspname <> p.tenant THEN '{_SCOPES}'
                        WHEN of.role = 'ygg_identity' AND NOT verbs && ARRAY['INSERT', 'UPDATE'] THEN '{_OF_PERSON}'
                        ELSE '{_IN_NETWORK}' END
        ) AS must (begin)
        WHERE polpermissive AND of.role = ANY (p.roles) AND of.role <> p.reader
          AND name || '.' || polname <> ALL (p.open_policies)
          AND (coalesce(using_, check_) !~ must.begin OR coalesce(check_, using_) !~ must.begin)
        UNION ALL
        SELECT name, 'policy ' || polname || ' lets every job write' FROM p, policies
        WHERE polpermissive AND polcmd <> 'r' AND p.reader = ANY (to_roles)
          AND (coalesce(using_, check_) !~ 'current_job\\(\\)' OR coalesce(check_, using_) !~ 'current_job\\(\\)')
    """,  # noqa: S608  our own patterns
    "policy-calls": """
        SELECT DISTINCT q.name, 'policy ' || q.polname || ' calls ' || f.name || ', which is no reader of the scope'
        FROM p, policies q JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = q.policy
        JOIN functions f ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid
        WHERE f.name <> ALL (SELECT split_part(unnest(p.scope_readers), ' ', 1))""",
    "scope-reader": """
        SELECT f.name, 'is not what policies take it for: ' || coalesce(pg_get_function_sqlbody(f.oid), 'a body of text')
        FROM p, functions f WHERE f.name = ANY (SELECT split_part(unnest(p.scope_readers), ' ', 1))
          AND f.name || ' ' || coalesce(pg_get_function_sqlbody(f.oid), '') <> ALL (p.scope_readers)""",
    "grant-public": """
        SELECT name, verb || ' is granted to PUBLIC' FROM grants WHERE role = 'PUBLIC'
        UNION ALL
        SELECT n.nspname, g.privilege_type || ' on the schema is granted to PUBLIC'
        FROM ours n, aclexplode(n.nspacl) g WHERE g.grantee = 0
        UNION ALL
        SELECT f.name, 'EXECUTE is granted to PUBLIC'
        FROM p, functions f, aclexplode(f.acl) g WHERE f.nspname = ANY (p.schemas) AND g.grantee = 0
        UNION ALL
        SELECT d.datname, g.privilege_type || ' on the database is granted to PUBLIC'
        FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) g
        WHERE d.datname = current_database() AND g.grantee = 0""",
    "grant-verb": """
        SELECT name, verb || ' is granted to ' || role FROM p, grants
        WHERE role <> p.owner AND grantee <> relowner AND (verb NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') OR role <> ALL (p.roles))
          AND role <> 'PUBLIC'
        UNION ALL
        SELECT f.name, 'EXECUTE is granted to ' || r.rolname
        FROM p, functions f, aclexplode(f.acl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE f.nspname = ANY (p.schemas) AND r.rolname <> ALL (p.roles || p.owner) AND g.grantee <> f.proowner""",
    "grant-option": """
        SELECT name, verb || ' is granted to ' || role || ' with the right to grant it on' FROM p, grants
        WHERE is_grantable AND role <> p.owner
        UNION ALL
        SELECT f.name, 'EXECUTE is granted to ' || r.rolname || ' with the right to grant it on'
        FROM functions f, aclexplode(f.acl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE g.is_grantable AND g.grantee <> f.proowner
        UNION ALL
        SELECT n.nspname, g.privilege_type || ' is granted to ' || r.rolname || ' with the right to grant it on'
        FROM ours n, aclexplode(n.nspacl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE g.is_grantable AND g.grantee <> n.nspowner""",
    "grant-reach": """
        SELECT DISTINCT name, role || ' has no business in the schema ' || nspname FROM p, grants
        WHERE role = ANY (p.roles) AND role || ' ' || nspname <> ALL (p.reach)
        UNION ALL
        SELECT n.nspname, r.rolname || ' has no business in it'
        FROM p, ours n, aclexplode(n.nspacl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE r.rolname = ANY (p.roles) AND n.nspname = ANY (p.schemas) AND n.nspname <> 'platform'
          AND r.rolname || ' ' || n.nspname <> ALL (p.reach)""",
    "grant-schema": """
        SELECT n.nspname, g.privilege_type || ' on the schema is granted to ' || r.rolname
        FROM p, ours n, aclexplode(n.nspacl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE g.grantee <> n.nspowner AND r.rolname <> p.owner
          AND NOT (n.nspname = ANY (p.schemas) AND r.rolname = ANY (p.roles) AND g.privilege_type = 'USAGE')
        UNION ALL
        SELECT d.datname, g.privilege_type || ' on the database is granted to ' || r.rolname
        FROM p, pg_database d, aclexplode(d.datacl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE d.datname = current_database() AND g.grantee <> d.datdba AND r.rolname <> p.owner
          AND NOT (r.rolname = ANY (p.roles) AND g.privilege_type = 'CONNECT')""",
    "grant-without-policy": """
        SELECT name, verb || ' is granted to ' || role || ', but no policy lets it: it would find nothing, silently'
        FROM p, grants WHERE role = ANY (p.roles) AND verb IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
          AND NOT EXISTS (SELECT FROM policies q WHERE q.oid = grants.oid AND q.polpermissive
                          AND role = ANY (q.to_roles) AND verb = ANY (q.verbs))""",
    "policy-without-grant": """
        SELECT name, 'policy ' || polname || ' is for ' || of.role || ', which has no grant here'
        FROM p, policies CROSS JOIN unnest(to_roles) AS of (role)
        WHERE of.role <> p.owner AND of.role <> 'PUBLIC' AND NOT EXISTS (
            SELECT FROM grants g WHERE g.oid = policies.oid AND g.role = of.role AND g.verb = ANY (verbs))""",
    "default-privileges": """
        SELECT coalesce(n.nspname, 'everywhere'), 'what ' || o.rolname || ' makes there is granted to '
               || coalesce(r.rolname, 'PUBLIC') || ' without being asked'
        FROM pg_default_acl d CROSS JOIN aclexplode(d.defaclacl) g JOIN pg_roles o ON o.oid = d.defaclrole
        LEFT JOIN pg_roles r ON r.oid = g.grantee LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
        WHERE g.grantee <> d.defaclrole""",
    "system-reads-all": """
        SELECT name, p.reader || ' cannot read all of it' FROM p, tables t
        WHERE p.reader <> '' AND NOT t.relispartition AND NOT (
            EXISTS (SELECT FROM grants g WHERE g.oid = t.oid AND g.role = p.reader AND g.verb = 'SELECT')
            AND EXISTS (SELECT FROM policies q WHERE q.oid = t.oid AND p.reader = ANY (q.to_roles)
                        AND 'SELECT' = ANY (q.verbs) AND q.using_ = 'true'))""",
    "primary-key": """
        SELECT name, 'has no primary key' FROM tables t
        WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'p')""",
    "tenant-key": """
        SELECT t.name, i.indexrelid::regclass
               || ' is unique and does not start with network_id: it would tell what others have'
        FROM p, tables t JOIN pg_index i ON i.indrelid = t.oid AND (i.indisunique OR i.indisexclusion)
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]
        WHERE t.nspname = p.tenant AND a.attname IS DISTINCT FROM 'network_id'
        UNION ALL
        SELECT t.name, k.conname || ' is a foreign key that does not go from network_id to network_id'
        FROM p, tables t JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.conkey[1]
        LEFT JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1]
        WHERE t.nspname = p.tenant
          AND (a.attname, b.attname) IS DISTINCT FROM ('network_id'::name, 'network_id'::name)
        UNION ALL
        SELECT t.name, 'has no column network_id uuid NOT NULL' FROM p, tables t
        WHERE t.nspname = p.tenant AND NOT EXISTS (SELECT FROM columns c
            WHERE c.oid = t.oid AND c.attname = 'network_id' AND c.type = 'uuid' AND c.attnotnull)""",
    "global-key": """
        SELECT t.name, i.indexrelid::regclass
               || ' is unique over all networks and does not start with an id that the application draws'
        FROM p, tables t JOIN pg_index i ON i.indrelid = t.oid AND (i.indisunique OR i.indisexclusion)
        JOIN pg_class x ON x.oid = i.indexrelid
        LEFT JOIN columns c ON c.oid = t.oid AND c.attnum = i.indkey[0]
        WHERE t.nspname <> p.tenant AND c.type IS DISTINCT FROM 'uuid'
          AND t.nspname || '.' || x.relname <> ALL (p.global_keys)""",
    "foreign-key": """
        SELECT t.name, k.conname || ' points into another schema' FROM tables t
        JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f' JOIN pg_class o ON o.oid = k.confrelid
        JOIN pg_namespace n ON n.oid = o.relnamespace WHERE n.nspname <> t.nspname
        UNION ALL
        SELECT t.name, k.conname || ' tells whether something that can be guessed exists' FROM p, tables t
        JOIN pg_constraint k ON k.conrelid = t.oid AND k.contype = 'f'
        JOIN columns c ON c.oid = k.confrelid AND c.attnum = k.confkey[1]
        WHERE t.nspname <> p.tenant AND c.type <> 'uuid'""",
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
        FROM ours n JOIN pg_class s ON n.oid = s.relnamespace WHERE s.relkind = 'S'""",
    "type": """
        SELECT name || '.' || attname, 'is ' || type || '; use ' || CASE
               WHEN type LIKE 'timestamp without%' OR type LIKE 'time %' THEN 'timestamptz'
               WHEN type IN ('money', 'real', 'double precision', 'numeric') AND attname ~ 'cents' THEN 'bigint'
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
    "inheritance": """
        SELECT c.name, 'inherits from ' || i.inhparent::regclass || ', whose policies would answer for its rows'
        FROM tables c JOIN pg_inherits i ON i.inhrelid = c.oid WHERE NOT c.relispartition
        UNION ALL
        SELECT DISTINCT c.name, 'is a partition, and ' || g.role || ' may go round its parent''s policies'
        FROM p, tables c JOIN grants g ON g.oid = c.oid WHERE c.relispartition AND g.role <> p.owner""",
    "definer": """
        SELECT name, 'runs as its owner (SECURITY DEFINER)' FROM functions WHERE prosecdef""",
    "search-path": """
        SELECT name, 'looks its names up when it runs, without a fixed search_path' FROM functions
        WHERE prosqlbody IS NULL AND NOT EXISTS (
            SELECT FROM unnest(proconfig) AS s (setting) WHERE setting = 'search_path=pg_catalog, pg_temp')""",
    "function-setting": """
        SELECT name, 'runs under ' || setting FROM functions, unnest(proconfig) AS s (setting)
        WHERE split_part(setting, '=', 1) NOT IN ('search_path', 'plan_cache_mode', 'enable_seqscan')""",
    "dynamic-sql": """
        SELECT name, 'builds its SQL while it runs (EXECUTE)' FROM functions
        WHERE lanname <> 'sql' AND body ~* '\\mEXECUTE\\M'""",
    "language": """
        SELECT name, 'is written in ' || lanname FROM functions WHERE lanname NOT IN ('sql', 'plpgsql')""",
    "leakproof": """
        SELECT name, 'is called before the policies decide (LEAKPROOF)' FROM functions WHERE proleakproof""",
    "sets-scope": """
        SELECT f.name, 'sets the scope' FROM p, functions f
        WHERE f.name <> ALL (p.scope_functions)
          AND (f.body ~* '\\m(set_config|(enter|leave)_scope)\\M' OR f.body ~* '\\mset\\s+(local\\s+|session\\s+)?app\\.')
        UNION ALL
        SELECT f.name, 'sets the scope and may be called by ' || r.rolname
        FROM p, functions f, aclexplode(f.acl) g JOIN pg_roles r ON r.oid = g.grantee
        WHERE f.name = ANY (p.scope_functions) AND r.rolname = ANY (p.roles) AND r.rolname <> p.setter""",
    "calls": """
        SELECT pg_describe_object(d.classid, d.objid, 0), 'calls ' || f.name || ' unseen, beside a statement'
        FROM pg_depend d JOIN functions f ON f.oid = d.refobjid WHERE d.refclassid = 'pg_proc'::regclass
          AND d.classid IN ('pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_class'::regclass)""",
    "trigger": """
        SELECT t.name, g.tgname || ' runs unseen beside each write' FROM tables t
        JOIN pg_trigger g ON g.tgrelid = t.oid WHERE NOT g.tgisinternal""",
    "rewrite": """
        SELECT t.name, r.rulename || ' turns statements into others, as the table''s owner'
        FROM tables t JOIN pg_rewrite r ON r.ev_class = t.oid""",
    "view": """
        SELECT n.nspname || '.' || v.relname, CASE v.relkind
               WHEN 'm' THEN 'is a materialized view: no row security'
               ELSE 'is a view without security_invoker: it reads as its owner' END
        FROM pg_class v JOIN ours n ON n.oid = v.relnamespace
        WHERE v.relkind = 'm' OR (v.relkind = 'v'
          AND NOT coalesce(v.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false))""",
    "owner": """
        SELECT name, 'is owned by ' || r.rolname FROM p, tables t JOIN pg_roles r ON r.oid = t.relowner
        WHERE r.rolname <> p.owner
        UNION ALL
        SELECT f.name, 'is owned by ' || r.rolname FROM p, functions f JOIN pg_roles r ON r.oid = f.proowner
        WHERE f.nspname = ANY (p.schemas) AND r.rolname <> p.owner
        UNION ALL
        SELECT n.nspname, 'is owned by ' || r.rolname FROM p, ours n JOIN pg_roles r ON r.oid = n.nspowner
        WHERE n.nspname = ANY (p.schemas) AND r.rolname <> p.owner
        UNION ALL
        SELECT r.rolname, 'owns ' || pg_describe_object(d.classid, d.objid, d.objsubid)
        FROM p, pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass
        JOIN pg_database b ON b.oid = d.dbid AND b.datname = current_database()
        WHERE d.deptype = 'o' AND r.rolname = ANY (p.roles)
          AND d.classid NOT IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_namespace'::regclass)""",
    "role": """
        SELECT r.rolname, 'is superuser, bypasses row security, or may make roles or databases'
        FROM p, pg_roles r WHERE r.rolname = ANY (p.roles || p.owner)
          AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)
        UNION ALL
        SELECT r.rolname, 'inherits what it may be granted' FROM p, pg_roles r
        WHERE r.rolname = ANY (p.roles || p.owner) AND r.rolinherit
        UNION ALL
        SELECT r.rolname, 'is a member of ' || g.rolname FROM p, pg_auth_members m
        JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
        WHERE r.rolname = ANY (p.roles || p.owner)
        UNION ALL
        SELECT of.role, 'does not exist' FROM p, unnest(p.roles || p.owner) AS of (role)
        WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = of.role)""",
    "role-setting": """
        SELECT r.rolname, 'begins with ' || setting FROM p, pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole,
             unnest(s.setconfig) AS of (setting)
        WHERE r.rolname = ANY (p.roles || p.owner)
        UNION ALL
        SELECT coalesce(d.datname, 'every database'), 'begins with ' || setting
        FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase,
             unnest(s.setconfig) AS of (setting)
        WHERE s.setrole = 0 AND coalesce(d.datname, current_database()) = current_database()
          AND setting ~ '^(app\\.|role=|row_security=|search_path=|session_)'""",
    "parameter": """
        SELECT coalesce(r.rolname, 'PUBLIC'), 'may ' || g.privilege_type || ' the server''s ' || a.parname
        FROM p, pg_parameter_acl a CROSS JOIN aclexplode(a.paracl) g LEFT JOIN pg_roles r ON r.oid = g.grantee
        WHERE g.grantee = 0 OR r.rolname = ANY (p.roles || p.owner)""",
    "statistics": f"""
        SELECT of.role, 'may read ' || count(*) || ' of what tells about others, such as ' || min(seen.name)
        FROM p, unnest(p.roles) AS of (role) JOIN pg_roles r ON r.rolname = of.role
        CROSS JOIN ({STATISTICS}) AS seen
        WHERE CASE WHEN seen.callable THEN has_function_privilege(r.oid, seen.oid, 'EXECUTE')
                   ELSE has_any_column_privilege(r.oid, seen.oid, 'SELECT') END GROUP BY of.role""",  # noqa: S608  our own patterns
    "stray": """
        SELECT n.nspname || '.' || c.relname, 'lies outside the schemas of this house'
        FROM p, pg_class c JOIN ours n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> ALL (p.schemas)
        UNION ALL
        SELECT extname, 'is an extension: plain PostgreSQL only' FROM pg_extension WHERE extname <> 'plpgsql'
        UNION ALL
        SELECT 'cast of ' || castsource::regtype, 'is a cast of our own' FROM pg_cast WHERE oid >= 16384
        UNION ALL
        SELECT n.nspname || '.' || o.oprname, 'is an operator of our own'
        FROM pg_operator o JOIN ours n ON n.oid = o.oprnamespace""",
    "foreign-server": """
        SELECT srvname, 'is another server' FROM pg_foreign_server
        UNION ALL SELECT fdwname, 'leads to other servers' FROM pg_foreign_data_wrapper""",
    "publication": """
        SELECT pubname, 'publishes rows past all policies' FROM pg_publication
        UNION ALL
        SELECT s.subname, 'writes what another server publishes' FROM pg_subscription s
        JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()""",
    "event-trigger": """
        SELECT evtname, 'runs unseen beside changes of the schema' FROM pg_event_trigger""",
    "large-object": """
        SELECT 'large object ' || oid, 'lies outside of every table and its policies' FROM pg_largeobject_metadata""",
}
