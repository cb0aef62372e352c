CREATE FUNCTION public.sessile_audit_stays() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION 'an audit record stays as it is'; END $$;
CREATE FUNCTION public.sessile_now_ms() RETURNS bigint
    LANGUAGE sql PARALLEL SAFE
    AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;
CREATE TABLE public.account (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    roles text NOT NULL,
    password_hash text NOT NULL,
    created_at_ms bigint NOT NULL
);
ALTER TABLE ONLY public.account FORCE ROW LEVEL SECURITY;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.audit (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    audit_id text NOT NULL COLLATE pg_catalog."C",
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    request_id text NOT NULL,
    details text NOT NULL
);
ALTER TABLE ONLY public.audit FORCE ROW LEVEL SECURITY;
CREATE TABLE public.chore (
    name text NOT NULL COLLATE pg_catalog."C",
    owner text,
    until_ms bigint NOT NULL,
    remains text NOT NULL
);
CREATE TABLE public.compaction (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    upto_seq bigint NOT NULL
);
ALTER TABLE ONLY public.compaction FORCE ROW LEVEL SECURITY;
CREATE TABLE public.credential (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    credential_id text NOT NULL COLLATE pg_catalog."C",
    kind text NOT NULL,
    secret_hash text NOT NULL,
    user_id text NOT NULL COLLATE pg_catalog."C",
    roles text NOT NULL,
    scopes text,
    name text NOT NULL,
    created_by text NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    used_at_ms bigint
);
ALTER TABLE ONLY public.credential FORCE ROW LEVEL SECURITY;
CREATE TABLE public.entry (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    turn_id text,
    kind text NOT NULL,
    at_ms bigint NOT NULL,
    body text NOT NULL
);
ALTER TABLE ONLY public.entry FORCE ROW LEVEL SECURITY;
CREATE TABLE public.erasure (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    asked_by text NOT NULL,
    asked_at_ms bigint NOT NULL,
    sessions bigint NOT NULL,
    done_at_ms bigint
);
ALTER TABLE ONLY public.erasure FORCE ROW LEVEL SECURITY;
CREATE TABLE public.fork (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    origin_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    origin_user_id text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE ONLY public.fork FORCE ROW LEVEL SECURITY;
CREATE TABLE public.idempotency (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    scope text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    request_hash text NOT NULL,
    session_id text NOT NULL COLLATE pg_catalog."C",
    turn_id text,
    created boolean NOT NULL,
    at_ms bigint NOT NULL
);
ALTER TABLE ONLY public.idempotency FORCE ROW LEVEL SECURITY;
CREATE TABLE public.revocation (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    at_ms bigint NOT NULL
);
ALTER TABLE ONLY public.revocation FORCE ROW LEVEL SECURITY;
CREATE TABLE public.session (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    assistant text NOT NULL,
    title text,
    metadata text NOT NULL,
    grants text NOT NULL,
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL
);
ALTER TABLE ONLY public.session FORCE ROW LEVEL SECURITY;
CREATE TABLE public.session_head (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    user_id text NOT NULL COLLATE pg_catalog."C",
    exclusive_key text COLLATE pg_catalog."C",
    status text NOT NULL,
    head bigint NOT NULL,
    fence bigint NOT NULL,
    step integer NOT NULL,
    next_position integer NOT NULL,
    queued integer NOT NULL,
    running_turn_id text,
    awaiting_until_ms bigint,
    cancel_turn_id text,
    steers_unread integer NOT NULL,
    lease_owner text,
    lease_until_ms bigint NOT NULL,
    due_at_ms bigint,
    assistant text DEFAULT ''::text NOT NULL
)
WITH (fillfactor='50');
ALTER TABLE ONLY public.session_head FORCE ROW LEVEL SECURITY;
CREATE TABLE public.store (
    one integer NOT NULL,
    epoch bigint NOT NULL,
    secret bytea NOT NULL,
    written_at_ms bigint NOT NULL,
    sign_in integer DEFAULT 0 NOT NULL,
    CONSTRAINT store_one_check CHECK ((one = 1))
);
CREATE TABLE public.turn (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    turn_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    "position" integer NOT NULL,
    message_id text NOT NULL,
    user_id text NOT NULL,
    status text NOT NULL,
    attempt integer NOT NULL,
    strikes integer NOT NULL,
    progressed boolean NOT NULL,
    cancel_reason text,
    cancel_by text,
    current_iteration bigint NOT NULL,
    total_iterations bigint NOT NULL,
    tokens_used bigint NOT NULL,
    total_tokens bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    started_at_ms bigint,
    ended_at_ms bigint,
    error text,
    awaited text,
    input text NOT NULL,
    output text
)
WITH (fillfactor='80');
ALTER TABLE ONLY public.turn FORCE ROW LEVEL SECURITY;
CREATE TABLE public.webhook (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    webhook_id text NOT NULL COLLATE pg_catalog."C",
    url text NOT NULL,
    kinds text NOT NULL,
    secret text NOT NULL,
    created_by text NOT NULL COLLATE pg_catalog."C",
    created_at_ms bigint NOT NULL,
    disabled text NOT NULL,
    last_status integer,
    last_error text NOT NULL,
    last_at_ms bigint,
    failing_since_ms bigint,
    behind integer NOT NULL
);
ALTER TABLE ONLY public.webhook FORCE ROW LEVEL SECURITY;
CREATE TABLE public.webhook_cursor (
    tenant_id text NOT NULL COLLATE pg_catalog."C",
    webhook_id text NOT NULL COLLATE pg_catalog."C",
    session_id text NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL
);
ALTER TABLE ONLY public.webhook_cursor FORCE ROW LEVEL SECURITY;
CREATE TABLE public.webhook_work (
    tenant text NOT NULL COLLATE pg_catalog."C",
    lease_owner text,
    lease_until_ms bigint NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0007');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 1, NULL, 'session.opened', 1000000, '{"user_id":"ann","assistant":"support","title":"Orders ünï","metadata":{"shop":7},"exclusive_key":"ann@support"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 2, 'trn_1', 'turn.queued', 1000000, '{"position":1,"input":{"type":"message","text":"where is 7?"},"message_id":"msg_1","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 3, 'trn_1', 'turn.started', 1000000, '{"attempt":1,"fence":1,"node":"node-1","strikes":0}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 4, 'trn_1', 'message.added', 1000000, '{"message_id":"msg_1","role":"user","parts":[{"type":"text","text":"where is 7?"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 5, 'trn_1', 'message.delta', 1000005, '{"message_id":"msg_r","offset":0,"text":"on its","channel":"text"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 6, 'trn_1', 'message.delta', 1000005, '{"message_id":"msg_r","offset":0,"text":" way","channel":"text"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 7, 'trn_1', 'message.added', 1000005, '{"message_id":"msg_2","role":"assistant","parts":[{"type":"text","text":"on its way"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 8, 'trn_1', 'turn.completed', 1000005, '{"current_iteration":0,"total_iterations":0,"tokens_used":0,"total_tokens":0,"output":"on its way"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 9, 'trn_2', 'turn.queued', 1000005, '{"position":2,"input":{"type":"message","text":"and 8?"},"message_id":"msg_3","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 10, 'trn_2', 'turn.started', 1000005, '{"attempt":1,"fence":2,"node":"node-1","strikes":0}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 11, 'trn_2', 'message.added', 1000005, '{"message_id":"msg_3","role":"user","parts":[{"type":"text","text":"and 8?"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 12, 'trn_2', 'message.delta', 1000005, '{"message_id":"msg_r","offset":0,"text":"it","channel":"text"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 13, 'trn_3', 'turn.queued', 1000005, '{"position":3,"input":{"type":"message","text":"and 9?"},"message_id":"msg_4","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 14, 'trn_4', 'turn.queued', 1000005, '{"position":4,"input":{"type":"message","text":"never mind"},"message_id":"msg_5","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_1', 15, 'trn_4', 'turn.cancelled', 1000005, '{"current_iteration":0,"total_iterations":0,"tokens_used":0,"total_tokens":0,"reason":"asked","by":"ann","output":""}');
INSERT INTO public.entry VALUES ('acme', 'ses_2', 1, NULL, 'session.opened', 1000005, '{"user_id":"bob","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO public.entry VALUES ('acme', 'ses_2', 2, NULL, 'session.closed', 1000005, '{"by":"bob","reason":""}');
INSERT INTO public.entry VALUES ('other', 'ses_3', 1, NULL, 'session.opened', 1000005, '{"user_id":"ann","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO public.entry VALUES ('other', 'ses_3', 2, 'trn_5', 'turn.queued', 1000005, '{"position":1,"input":{"type":"message","text":"q"},"message_id":"msg_6","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_4', 1, NULL, 'session.opened', 1000005, '{"user_id":"ann","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO public.entry VALUES ('acme', 'ses_4', 2, 'trn_6', 'turn.queued', 1000005, '{"position":1,"input":{"type":"message","text":"x"},"message_id":"msg_7","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_4', 3, 'trn_6', 'turn.started', 1000005, '{"attempt":1,"fence":1,"node":"node-1","strikes":0}');
INSERT INTO public.entry VALUES ('acme', 'ses_4', 4, 'trn_6', 'message.added', 1000005, '{"message_id":"msg_7","role":"user","parts":[{"type":"text","text":"x"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO public.entry VALUES ('acme', 'ses_4', 5, 'trn_6', 'turn.failed', 1000005, '{"current_iteration":0,"total_iterations":0,"tokens_used":0,"total_tokens":0,"error":{"code":"model_error","message":"no","retry":true},"output":"done"}');
INSERT INTO public.entry VALUES ('acme', 'ses_4', 6, NULL, 'session.updated', 1000005, '{"title":"Broken","metadata":{},"by":"ann"}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 1, NULL, 'session.opened', 1000005, '{"user_id":"ann","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 2, NULL, 'session.granted', 1000005, '{"grant":"refund","by":"ann"}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 3, 'trn_7', 'turn.queued', 1000005, '{"position":1,"input":{"type":"message","text":"my money"},"message_id":"msg_8","by":"ann","when_busy":"enqueue"}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 4, 'trn_7', 'turn.started', 1000005, '{"attempt":1,"fence":1,"node":"node-1","strikes":0}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 5, 'trn_7', 'message.added', 1000005, '{"message_id":"msg_8","role":"user","parts":[{"type":"text","text":"my money"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 6, 'trn_7', 'message.added', 1000005, '{"message_id":"msg_12","role":"assistant","parts":[{"type":"text","text":"so far"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 7, 'trn_7', 'approval.requested', 1000005, '{"call_id":"call_1","message_id":"msg_9","name":"orders.refund","arguments":{"order":7}}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 8, 'trn_7', 'approval.requested', 1000005, '{"call_id":"call_2","message_id":"msg_10","name":"orders.refund","arguments":{"order":7}}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 9, 'trn_7', 'turn.awaiting', 1000005, '{"call_ids":["call_1","call_2"],"expires_at_ms":87400005,"calls":[{"call_id":"call_1","message_id":"msg_9","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_2","message_id":"msg_10","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_3","message_id":"msg_11","name":"orders.note","arguments":{"order":7},"parent_call_id":null}],"output":"so far","open_message_id":null}');
INSERT INTO public.entry VALUES ('acme', 'ses_5', 10, 'trn_7', 'approval.granted', 1000012, '{"call_id":"call_1","by":"ann","unanswered":1}');
INSERT INTO public.idempotency VALUES ('acme', 'open', 'ann', 'k0', 'body', 'ses_1', NULL, true, 1000000);
INSERT INTO public.idempotency VALUES ('acme', 'ses_1', 'ann', 'k1', 'body', 'ses_1', 'trn_3', false, 1000005);
INSERT INTO public.session VALUES ('acme', 'ses_1', 'ann', 'support', 'Orders ünï', '{"shop":7}', '[]', 1000000, 1000000);
INSERT INTO public.session VALUES ('acme', 'ses_2', 'bob', 'support', NULL, '{}', '[]', 1000005, 1000005);
INSERT INTO public.session VALUES ('other', 'ses_3', 'ann', 'support', NULL, '{}', '[]', 1000005, 1000005);
INSERT INTO public.session VALUES ('acme', 'ses_4', 'ann', 'support', 'Broken', '{}', '[]', 1000005, 1000005);
INSERT INTO public.session VALUES ('acme', 'ses_5', 'ann', 'support', NULL, '{}', '["refund"]', 1000005, 1000005);
INSERT INTO public.session_head VALUES ('acme', 'ses_1', 'ann', 'ann@support', 'active', 15, 2, 1, 5, 1, 'trn_2', NULL, NULL, 0, 'node-1', 1012005, 1012005, 'support');
INSERT INTO public.session_head VALUES ('acme', 'ses_2', 'bob', NULL, 'closed', 2, 0, 0, 1, 0, NULL, NULL, NULL, 0, NULL, 0, NULL, 'support');
INSERT INTO public.session_head VALUES ('other', 'ses_3', 'ann', NULL, 'active', 2, 0, 0, 2, 1, NULL, NULL, NULL, 0, NULL, 0, 1000005, 'support');
INSERT INTO public.session_head VALUES ('acme', 'ses_4', 'ann', NULL, 'active', 6, 1, 0, 2, 0, NULL, NULL, NULL, 0, NULL, 0, NULL, 'support');
INSERT INTO public.session_head VALUES ('acme', 'ses_5', 'ann', NULL, 'active', 10, 1, 1, 2, 0, 'trn_7', 87400005, NULL, 0, NULL, 0, 87400005, 'support');
INSERT INTO public.store VALUES (1, 0, '\xddf94b83c3400210bda06eb22417e496550e518ec12140d3344c52e1cf442090', 0, 0);
INSERT INTO public.turn VALUES ('acme', 'ses_1', 'trn_1', 2, 1, 'msg_1', 'ann', 'completed', 1, 0, true, NULL, NULL, 0, 0, 0, 0, 1000000, 1000000, 1000005, NULL, NULL, '{"type":"message","text":"where is 7?"}', 'on its way');
INSERT INTO public.turn VALUES ('acme', 'ses_1', 'trn_2', 9, 2, 'msg_3', 'ann', 'running', 1, 0, false, NULL, NULL, 0, 0, 0, 0, 1000005, 1000005, NULL, NULL, NULL, '{"type":"message","text":"and 8?"}', NULL);
INSERT INTO public.turn VALUES ('acme', 'ses_1', 'trn_3', 13, 3, 'msg_4', 'ann', 'queued', 0, 0, false, NULL, NULL, 0, 0, 0, 0, 1000005, NULL, NULL, NULL, NULL, '{"type":"message","text":"and 9?"}', NULL);
INSERT INTO public.turn VALUES ('acme', 'ses_1', 'trn_4', 14, 4, 'msg_5', 'ann', 'cancelled', 0, 0, false, NULL, NULL, 0, 0, 0, 0, 1000005, NULL, 1000005, '{"code":"cancelled","message":"asked","retry":false}', NULL, '{"type":"message","text":"never mind"}', '');
INSERT INTO public.turn VALUES ('other', 'ses_3', 'trn_5', 2, 1, 'msg_6', 'ann', 'queued', 0, 0, false, NULL, NULL, 0, 0, 0, 0, 1000005, NULL, NULL, NULL, NULL, '{"type":"message","text":"q"}', NULL);
INSERT INTO public.turn VALUES ('acme', 'ses_4', 'trn_6', 2, 1, 'msg_7', 'ann', 'failed', 1, 0, false, NULL, NULL, 0, 0, 0, 0, 1000005, 1000005, 1000005, '{"code":"model_error","message":"no","retry":true}', NULL, '{"type":"message","text":"x"}', 'done');
INSERT INTO public.turn VALUES ('acme', 'ses_5', 'trn_7', 3, 1, 'msg_8', 'ann', 'awaiting', 1, 0, true, NULL, NULL, 0, 0, 0, 0, 1000005, 1000005, NULL, NULL, '{"calls":[{"call_id":"call_1","message_id":"msg_9","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_2","message_id":"msg_10","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_3","message_id":"msg_11","name":"orders.note","arguments":{"order":7},"parent_call_id":null}],"call_ids":["call_1","call_2"],"answers":{"call_1":"granted"},"output":"so far","since_ms":1000005,"waited_ms":0,"open_message_id":null}', '{"type":"message","text":"my money"}', NULL);
ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (tenant_id, user_id);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (tenant_id, audit_id);
ALTER TABLE ONLY public.chore
    ADD CONSTRAINT chore_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.compaction
    ADD CONSTRAINT compaction_pkey PRIMARY KEY (tenant_id, session_id);
ALTER TABLE ONLY public.credential
    ADD CONSTRAINT credential_pkey PRIMARY KEY (tenant_id, credential_id);
ALTER TABLE ONLY public.entry
    ADD CONSTRAINT entry_pkey PRIMARY KEY (tenant_id, session_id, seq);
ALTER TABLE ONLY public.erasure
    ADD CONSTRAINT erasure_pkey PRIMARY KEY (tenant_id, user_id);
ALTER TABLE ONLY public.fork
    ADD CONSTRAINT fork_pkey PRIMARY KEY (tenant_id, origin_id, session_id);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (tenant_id, scope, user_id, key);
ALTER TABLE ONLY public.revocation
    ADD CONSTRAINT revocation_pkey PRIMARY KEY (tenant_id, user_id);
ALTER TABLE ONLY public.session_head
    ADD CONSTRAINT session_head_pkey PRIMARY KEY (tenant_id, session_id);
ALTER TABLE ONLY public.session
    ADD CONSTRAINT session_pkey PRIMARY KEY (tenant_id, session_id);
ALTER TABLE ONLY public.store
    ADD CONSTRAINT store_pkey PRIMARY KEY (one);
ALTER TABLE ONLY public.turn
    ADD CONSTRAINT turn_pkey PRIMARY KEY (tenant_id, session_id, turn_id);
ALTER TABLE ONLY public.webhook_cursor
    ADD CONSTRAINT webhook_cursor_pkey PRIMARY KEY (tenant_id, webhook_id, session_id);
ALTER TABLE ONLY public.webhook
    ADD CONSTRAINT webhook_pkey PRIMARY KEY (tenant_id, webhook_id);
ALTER TABLE ONLY public.webhook_work
    ADD CONSTRAINT webhook_work_pkey PRIMARY KEY (tenant);
CREATE INDEX credential_by_user ON public.credential USING btree (tenant_id, user_id);
CREATE INDEX entry_history ON public.entry USING btree (tenant_id, session_id, seq) WHERE (kind = ANY (ARRAY['message.added'::text, 'tool.completed'::text, 'tool.failed'::text, 'tool.interrupted'::text, 'tool.refused'::text, 'session.summarized'::text]));
CREATE INDEX entry_summary ON public.entry USING btree (tenant_id, session_id, seq) WHERE (kind = 'session.summarized'::text);
CREATE INDEX erasure_waits ON public.erasure USING btree (asked_at_ms) WHERE (done_at_ms IS NULL);
CREATE INDEX fork_by_user ON public.fork USING btree (tenant_id, origin_user_id, session_id);
CREATE INDEX fork_session ON public.fork USING btree (tenant_id, session_id);
CREATE INDEX idempotency_by_user ON public.idempotency USING btree (tenant_id, user_id);
CREATE INDEX session_by_user ON public.session USING btree (tenant_id, user_id, session_id);
CREATE INDEX session_head_active ON public.session_head USING btree (tenant_id, user_id) WHERE (status = 'active'::text);
CREATE INDEX session_head_due ON public.session_head USING btree (tenant_id, due_at_ms, session_id) WHERE (due_at_ms IS NOT NULL);
CREATE UNIQUE INDEX session_head_exclusive ON public.session_head USING btree (tenant_id, exclusive_key) WHERE ((status = 'active'::text) AND (exclusive_key IS NOT NULL));
CREATE INDEX turn_day ON public.turn USING btree (tenant_id, created_at_ms) WHERE (created_at_ms > 0);
CREATE UNIQUE INDEX turn_position ON public.turn USING btree (tenant_id, session_id, "position");
CREATE INDEX turn_queued ON public.turn USING btree (tenant_id, session_id, "position") WHERE (status = 'queued'::text);
CREATE INDEX turn_waiting ON public.turn USING btree (tenant_id, user_id) WHERE (status = 'queued'::text);
CREATE TRIGGER audit_never BEFORE DELETE OR UPDATE ON public.audit FOR EACH ROW EXECUTE FUNCTION public.sessile_audit_stays();
ALTER TABLE public.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY audit ON public.account FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
ALTER TABLE public.audit ENABLE ROW LEVEL SECURITY;
CREATE POLICY audit ON public.audit FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.compaction FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.credential FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.entry FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.erasure FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.fork FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.idempotency FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.revocation FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.session FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.session_head FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.turn FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.webhook FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
CREATE POLICY audit ON public.webhook_cursor FOR SELECT TO sessile USING (( SELECT (current_setting('sessile.audit'::text, true) = 'on'::text)));
ALTER TABLE public.compaction ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.credential ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.entry ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.erasure ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.fork ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.idempotency ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.revocation ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.session_head ENABLE ROW LEVEL SECURITY;
CREATE POLICY sweep ON public.erasure FOR SELECT USING (( SELECT (current_setting('sessile.sweep'::text, true) = 'on'::text)));
CREATE POLICY sweep ON public.session_head FOR SELECT USING (( SELECT (current_setting('sessile.sweep'::text, true) = 'on'::text)));
CREATE POLICY tenants ON public.account USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.audit USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.compaction USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.credential USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.entry USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.erasure USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.fork USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.idempotency USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.revocation USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.session USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.session_head USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.turn USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.webhook USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
CREATE POLICY tenants ON public.webhook_cursor USING (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false)) WITH CHECK (COALESCE((tenant_id = ANY (( SELECT (NULLIF(current_setting('sessile.tenants'::text, true), ''::text))::text[] AS "nullif")::text[])), false));
ALTER TABLE public.turn ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.webhook ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.webhook_cursor ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA public TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.account TO sessile_app;
GRANT SELECT ON TABLE public.alembic_version TO sessile_app;
GRANT SELECT,INSERT ON TABLE public.audit TO sessile_app;
GRANT SELECT,INSERT,UPDATE ON TABLE public.chore TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.compaction TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.credential TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.entry TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.erasure TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.fork TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.idempotency TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.revocation TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.session TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.session_head TO sessile_app;
GRANT SELECT ON TABLE public.store TO sessile_app;
GRANT UPDATE(written_at_ms) ON TABLE public.store TO sessile_app;
GRANT UPDATE(sign_in) ON TABLE public.store TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.turn TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.webhook TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.webhook_cursor TO sessile_app;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.webhook_work TO sessile_app;
