BEGIN TRANSACTION;
CREATE TABLE account (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        roles TEXT NOT NULL,
        password_hash TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, user_id)
    );
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE audit (
        tenant_id TEXT NOT NULL,
        audit_id TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        request_id TEXT NOT NULL,
        details TEXT NOT NULL,
        PRIMARY KEY (tenant_id, audit_id)
    );
CREATE TABLE chore (
        name TEXT NOT NULL PRIMARY KEY,
        owner TEXT,
        until_ms INTEGER NOT NULL,
        remains TEXT NOT NULL
    );
CREATE TABLE compaction (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        upto_seq INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, session_id)
    );
CREATE TABLE credential (
        tenant_id TEXT NOT NULL,
        credential_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        secret_hash TEXT NOT NULL,
        user_id TEXT NOT NULL,
        roles TEXT NOT NULL,
        scopes TEXT,
        name TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        expires_at_ms INTEGER,
        used_at_ms INTEGER,
        PRIMARY KEY (tenant_id, credential_id)
    );
CREATE TABLE entry (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        turn_id TEXT,
        kind TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (tenant_id, session_id, seq)
    );
INSERT INTO "entry" VALUES('acme','ses_1',1,NULL,'session.opened',1000000,'{"user_id":"ann","assistant":"support","title":"Orders ünï","metadata":{"shop":7},"exclusive_key":"ann@support"}');
INSERT INTO "entry" VALUES('acme','ses_1',2,'trn_1','turn.queued',1000000,'{"position":1,"input":{"type":"message","text":"where is 7?"},"message_id":"msg_1","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_1',3,'trn_1','turn.started',1000000,'{"attempt":1,"fence":1,"node":"node-1","strikes":0}');
INSERT INTO "entry" VALUES('acme','ses_1',4,'trn_1','message.added',1000000,'{"message_id":"msg_1","role":"user","parts":[{"type":"text","text":"where is 7?"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO "entry" VALUES('acme','ses_1',5,'trn_1','message.delta',1000005,'{"message_id":"msg_r","offset":0,"text":"on its","channel":"text"}');
INSERT INTO "entry" VALUES('acme','ses_1',6,'trn_1','message.delta',1000005,'{"message_id":"msg_r","offset":0,"text":" way","channel":"text"}');
INSERT INTO "entry" VALUES('acme','ses_1',7,'trn_1','message.added',1000005,'{"message_id":"msg_2","role":"assistant","parts":[{"type":"text","text":"on its way"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO "entry" VALUES('acme','ses_1',8,'trn_1','turn.completed',1000005,'{"current_iteration":0,"total_iterations":0,"tokens_used":0,"total_tokens":0,"output":"on its way"}');
INSERT INTO "entry" VALUES('acme','ses_1',9,'trn_2','turn.queued',1000005,'{"position":2,"input":{"type":"message","text":"and 8?"},"message_id":"msg_3","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_1',10,'trn_2','turn.started',1000005,'{"attempt":1,"fence":2,"node":"node-1","strikes":0}');
INSERT INTO "entry" VALUES('acme','ses_1',11,'trn_2','message.added',1000005,'{"message_id":"msg_3","role":"user","parts":[{"type":"text","text":"and 8?"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO "entry" VALUES('acme','ses_1',12,'trn_2','message.delta',1000005,'{"message_id":"msg_r","offset":0,"text":"it","channel":"text"}');
INSERT INTO "entry" VALUES('acme','ses_1',13,'trn_3','turn.queued',1000005,'{"position":3,"input":{"type":"message","text":"and 9?"},"message_id":"msg_4","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_1',14,'trn_4','turn.queued',1000005,'{"position":4,"input":{"type":"message","text":"never mind"},"message_id":"msg_5","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_1',15,'trn_4','turn.cancelled',1000005,'{"current_iteration":0,"total_iterations":0,"tokens_used":0,"total_tokens":0,"reason":"asked","by":"ann","output":""}');
INSERT INTO "entry" VALUES('acme','ses_2',1,NULL,'session.opened',1000005,'{"user_id":"bob","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO "entry" VALUES('acme','ses_2',2,NULL,'session.closed',1000005,'{"by":"bob","reason":""}');
INSERT INTO "entry" VALUES('other','ses_3',1,NULL,'session.opened',1000005,'{"user_id":"ann","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO "entry" VALUES('other','ses_3',2,'trn_5','turn.queued',1000005,'{"position":1,"input":{"type":"message","text":"q"},"message_id":"msg_6","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_4',1,NULL,'session.opened',1000005,'{"user_id":"ann","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO "entry" VALUES('acme','ses_4',2,'trn_6','turn.queued',1000005,'{"position":1,"input":{"type":"message","text":"x"},"message_id":"msg_7","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_4',3,'trn_6','turn.started',1000005,'{"attempt":1,"fence":1,"node":"node-1","strikes":0}');
INSERT INTO "entry" VALUES('acme','ses_4',4,'trn_6','message.added',1000005,'{"message_id":"msg_7","role":"user","parts":[{"type":"text","text":"x"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO "entry" VALUES('acme','ses_4',5,'trn_6','turn.failed',1000005,'{"current_iteration":0,"total_iterations":0,"tokens_used":0,"total_tokens":0,"error":{"code":"model_error","message":"no","retry":true},"output":"done"}');
INSERT INTO "entry" VALUES('acme','ses_4',6,NULL,'session.updated',1000005,'{"title":"Broken","metadata":{},"by":"ann"}');
INSERT INTO "entry" VALUES('acme','ses_5',1,NULL,'session.opened',1000005,'{"user_id":"ann","assistant":"support","title":null,"metadata":{},"exclusive_key":null}');
INSERT INTO "entry" VALUES('acme','ses_5',2,NULL,'session.granted',1000005,'{"grant":"refund","by":"ann"}');
INSERT INTO "entry" VALUES('acme','ses_5',3,'trn_7','turn.queued',1000005,'{"position":1,"input":{"type":"message","text":"my money"},"message_id":"msg_8","by":"ann","when_busy":"enqueue"}');
INSERT INTO "entry" VALUES('acme','ses_5',4,'trn_7','turn.started',1000005,'{"attempt":1,"fence":1,"node":"node-1","strikes":0}');
INSERT INTO "entry" VALUES('acme','ses_5',5,'trn_7','message.added',1000005,'{"message_id":"msg_8","role":"user","parts":[{"type":"text","text":"my money"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO "entry" VALUES('acme','ses_5',6,'trn_7','message.added',1000005,'{"message_id":"msg_12","role":"assistant","parts":[{"type":"text","text":"so far"}],"state":"complete","steer_id":null,"asked_again":false}');
INSERT INTO "entry" VALUES('acme','ses_5',7,'trn_7','approval.requested',1000005,'{"call_id":"call_1","message_id":"msg_9","name":"orders.refund","arguments":{"order":7}}');
INSERT INTO "entry" VALUES('acme','ses_5',8,'trn_7','approval.requested',1000005,'{"call_id":"call_2","message_id":"msg_10","name":"orders.refund","arguments":{"order":7}}');
INSERT INTO "entry" VALUES('acme','ses_5',9,'trn_7','turn.awaiting',1000005,'{"call_ids":["call_1","call_2"],"expires_at_ms":87400005,"calls":[{"call_id":"call_1","message_id":"msg_9","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_2","message_id":"msg_10","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_3","message_id":"msg_11","name":"orders.note","arguments":{"order":7},"parent_call_id":null}],"output":"so far","open_message_id":null}');
INSERT INTO "entry" VALUES('acme','ses_5',10,'trn_7','approval.granted',1000012,'{"call_id":"call_1","by":"ann","unanswered":1}');
CREATE TABLE erasure (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        asked_by TEXT NOT NULL,
        asked_at_ms INTEGER NOT NULL,
        sessions INTEGER NOT NULL,
        done_at_ms INTEGER,
        PRIMARY KEY (tenant_id, user_id)
    );
CREATE TABLE fork (
        tenant_id TEXT NOT NULL,
        origin_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        origin_user_id TEXT NOT NULL,
        PRIMARY KEY (tenant_id, origin_id, session_id)
    );
CREATE TABLE idempotency (
        tenant_id TEXT NOT NULL,
        scope TEXT NOT NULL,
        user_id TEXT NOT NULL,
        key TEXT NOT NULL,
        request_hash TEXT NOT NULL,
        session_id TEXT NOT NULL,
        turn_id TEXT,
        created INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, scope, user_id, key)
    );
INSERT INTO "idempotency" VALUES('acme','open','ann','k0','body','ses_1',NULL,1,1000000);
INSERT INTO "idempotency" VALUES('acme','ses_1','ann','k1','body','ses_1','trn_3',0,1000005);
CREATE TABLE revocation (
        tenant_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, user_id)
    );
CREATE TABLE session (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        assistant TEXT NOT NULL,
        title TEXT,
        metadata TEXT NOT NULL,
        grants TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, session_id)
    );
INSERT INTO "session" VALUES('acme','ses_1','ann','support','Orders ünï','{"shop":7}','[]',1000000,1000000);
INSERT INTO "session" VALUES('acme','ses_2','bob','support',NULL,'{}','[]',1000005,1000005);
INSERT INTO "session" VALUES('other','ses_3','ann','support',NULL,'{}','[]',1000005,1000005);
INSERT INTO "session" VALUES('acme','ses_4','ann','support','Broken','{}','[]',1000005,1000005);
INSERT INTO "session" VALUES('acme','ses_5','ann','support',NULL,'{}','["refund"]',1000005,1000005);
CREATE TABLE session_head (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        exclusive_key TEXT,
        status TEXT NOT NULL,
        head INTEGER NOT NULL,
        fence INTEGER NOT NULL,
        step INTEGER NOT NULL,
        next_position INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        running_turn_id TEXT,
        awaiting_until_ms INTEGER,
        cancel_turn_id TEXT,
        steers_unread INTEGER NOT NULL,
        lease_owner TEXT,
        lease_until_ms INTEGER NOT NULL,
        due_at_ms INTEGER, assistant TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (tenant_id, session_id)
    );
INSERT INTO "session_head" VALUES('acme','ses_1','ann','ann@support','active',15,2,1,5,1,'trn_2',NULL,NULL,0,'node-1',1012005,1012005,'support');
INSERT INTO "session_head" VALUES('acme','ses_2','bob',NULL,'closed',2,0,0,1,0,NULL,NULL,NULL,0,NULL,0,NULL,'support');
INSERT INTO "session_head" VALUES('other','ses_3','ann',NULL,'active',2,0,0,2,1,NULL,NULL,NULL,0,NULL,0,1000005,'support');
INSERT INTO "session_head" VALUES('acme','ses_4','ann',NULL,'active',6,1,0,2,0,NULL,NULL,NULL,0,NULL,0,NULL,'support');
INSERT INTO "session_head" VALUES('acme','ses_5','ann',NULL,'active',10,1,1,2,0,'trn_7',87400005,NULL,0,NULL,0,87400005,'support');
CREATE TABLE store (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        secret BLOB NOT NULL,
        written_at_ms INTEGER NOT NULL
    , sign_in INTEGER NOT NULL DEFAULT 0);
INSERT INTO "store" VALUES(1,0,X'CBD61FF70C431A0C6DBB5106D3A65BE6BE0A5BEED09F80DBB6E800EE1B056539',0,0);
CREATE TABLE turn (
        tenant_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        turn_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        position INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        user_id TEXT NOT NULL,
        status TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        strikes INTEGER NOT NULL,
        progressed INTEGER NOT NULL,
        cancel_reason TEXT,
        cancel_by TEXT,
        current_iteration INTEGER NOT NULL,
        total_iterations INTEGER NOT NULL,
        tokens_used INTEGER NOT NULL,
        total_tokens INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL,
        started_at_ms INTEGER,
        ended_at_ms INTEGER,
        error TEXT,
        awaited TEXT,
        input TEXT NOT NULL,
        output TEXT,
        PRIMARY KEY (tenant_id, session_id, turn_id)
    );
INSERT INTO "turn" VALUES('acme','ses_1','trn_1',2,1,'msg_1','ann','completed',1,0,1,NULL,NULL,0,0,0,0,1000000,1000000,1000005,NULL,NULL,'{"type":"message","text":"where is 7?"}','on its way');
INSERT INTO "turn" VALUES('acme','ses_1','trn_2',9,2,'msg_3','ann','running',1,0,0,NULL,NULL,0,0,0,0,1000005,1000005,NULL,NULL,NULL,'{"type":"message","text":"and 8?"}',NULL);
INSERT INTO "turn" VALUES('acme','ses_1','trn_3',13,3,'msg_4','ann','queued',0,0,0,NULL,NULL,0,0,0,0,1000005,NULL,NULL,NULL,NULL,'{"type":"message","text":"and 9?"}',NULL);
INSERT INTO "turn" VALUES('acme','ses_1','trn_4',14,4,'msg_5','ann','cancelled',0,0,0,NULL,NULL,0,0,0,0,1000005,NULL,1000005,'{"code":"cancelled","message":"asked","retry":false}',NULL,'{"type":"message","text":"never mind"}','');
INSERT INTO "turn" VALUES('other','ses_3','trn_5',2,1,'msg_6','ann','queued',0,0,0,NULL,NULL,0,0,0,0,1000005,NULL,NULL,NULL,NULL,'{"type":"message","text":"q"}',NULL);
INSERT INTO "turn" VALUES('acme','ses_4','trn_6',2,1,'msg_7','ann','failed',1,0,0,NULL,NULL,0,0,0,0,1000005,1000005,1000005,'{"code":"model_error","message":"no","retry":true}',NULL,'{"type":"message","text":"x"}','done');
INSERT INTO "turn" VALUES('acme','ses_5','trn_7',3,1,'msg_8','ann','awaiting',1,0,1,NULL,NULL,0,0,0,0,1000005,1000005,NULL,NULL,'{"calls":[{"call_id":"call_1","message_id":"msg_9","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_2","message_id":"msg_10","name":"orders.refund","arguments":{"order":7},"parent_call_id":null},{"call_id":"call_3","message_id":"msg_11","name":"orders.note","arguments":{"order":7},"parent_call_id":null}],"call_ids":["call_1","call_2"],"answers":{"call_1":"granted"},"output":"so far","since_ms":1000005,"waited_ms":0,"open_message_id":null}','{"type":"message","text":"my money"}',NULL);
CREATE TABLE webhook (
        tenant_id TEXT NOT NULL,
        webhook_id TEXT NOT NULL,
        url TEXT NOT NULL,
        kinds TEXT NOT NULL,
        secret TEXT NOT NULL,
        created_by TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        disabled TEXT NOT NULL,
        last_status INTEGER,
        last_error TEXT NOT NULL,
        last_at_ms INTEGER,
        failing_since_ms INTEGER,
        behind INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, webhook_id)
    );
CREATE TABLE webhook_cursor (
        tenant_id TEXT NOT NULL,
        webhook_id TEXT NOT NULL,
        session_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        PRIMARY KEY (tenant_id, webhook_id, session_id)
    );
CREATE TABLE webhook_work (
        tenant TEXT PRIMARY KEY NOT NULL,
        lease_owner TEXT,
        lease_until_ms INTEGER NOT NULL
    );
CREATE UNIQUE INDEX session_head_exclusive ON session_head (tenant_id, exclusive_key)
    WHERE status = 'active' AND exclusive_key IS NOT NULL
    ;
CREATE INDEX session_by_user ON session (tenant_id, user_id, session_id);
CREATE INDEX entry_history ON entry (tenant_id, session_id, seq)
    WHERE kind IN (
        'message.added', 'tool.completed', 'tool.failed', 'tool.interrupted', 'tool.refused',
        'session.summarized'
    )
    ;
CREATE INDEX entry_summary ON entry (tenant_id, session_id, seq)
    WHERE kind = 'session.summarized'
    ;
CREATE UNIQUE INDEX turn_position ON turn (tenant_id, session_id, position);
CREATE INDEX turn_queued ON turn (tenant_id, session_id, position) WHERE status = 'queued'
    ;
CREATE INDEX credential_by_user ON credential (tenant_id, user_id);
CREATE INDEX session_head_due ON session_head (tenant_id, due_at_ms, session_id)
    WHERE due_at_ms IS NOT NULL
    ;
CREATE INDEX session_head_active ON session_head (tenant_id, user_id)
    WHERE status = 'active'
    ;
CREATE INDEX turn_waiting ON turn (tenant_id, user_id) WHERE status = 'queued';
CREATE INDEX turn_day ON turn (tenant_id, created_at_ms) WHERE created_at_ms > 0;
CREATE TRIGGER audit_UPDATE_never BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'an audit record stays as it is'); END;
CREATE TRIGGER audit_DELETE_never BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'an audit record stays as it is'); END;
CREATE INDEX fork_session ON fork (tenant_id, session_id);
CREATE INDEX fork_by_user ON fork (tenant_id, origin_user_id, session_id);
CREATE INDEX erasure_waits ON erasure (asked_at_ms) WHERE done_at_ms IS NULL;
CREATE INDEX idempotency_by_user ON idempotency (tenant_id, user_id);
COMMIT;
