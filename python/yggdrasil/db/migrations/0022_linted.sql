-- What the catalog linter found: a job may read everything, but writes only what it lists. These let any job write.

ALTER POLICY provider_work_system_insert ON tenant.provider_work
    WITH CHECK ((SELECT platform.current_job()) = 'work-counts');
ALTER POLICY provider_work_system_update ON tenant.provider_work
    USING ((SELECT platform.current_job()) = 'work-counts') WITH CHECK ((SELECT platform.current_job()) = 'work-counts');
ALTER POLICY provider_work_system_delete ON tenant.provider_work
    USING ((SELECT platform.current_job()) = 'work-counts');

ALTER POLICY results_system_delete ON tenant.results USING ((SELECT platform.current_job()) = 'reconciler');

-- The reconciler beats for its boot and takes it off the list.
DROP POLICY system_all ON platform.nodes;
CREATE POLICY system_reads ON platform.nodes FOR SELECT TO ygg_system USING (true);
CREATE POLICY system_beats ON platform.nodes FOR ALL TO ygg_system
    USING ((SELECT platform.current_job()) = 'reconciler') WITH CHECK ((SELECT platform.current_job()) = 'reconciler');
