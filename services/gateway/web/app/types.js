// types.js: what the HTTP interface answers, as far as the dashboard reads it. Types only.

/** @typedef {"inactive"|"starting"|"active"|"online"|"degraded"|"idle"|"offline"|"error"} Status */

/**
 * @typedef {object} User
 * @property {string} id
 * @property {string} email
 * @property {string} name
 * @property {string} plan
 * @property {string|null} plan_expires
 * @property {boolean} is_admin
 */

/**
 * An instance. heard_at is ours: when its last heartbeat came, in milliseconds of this machine's clock.
 * @typedef {object} Instance
 * @property {string} id
 * @property {string} name
 * @property {number} local_port
 * @property {number|null} remote_port
 * @property {string} region
 * @property {string|null} server_host
 * @property {string|null} assigned_server
 * @property {Status} status
 * @property {string|null} status_reason
 * @property {string|null} status_since
 * @property {boolean} tunnel_connected
 * @property {string|null} public_url
 * @property {number|null} last_heartbeat
 * @property {number|null} heartbeat_age_ms
 * @property {string} created_at
 * @property {number|null} [heard_at]
 */

/** @typedef {{status: Status, from: string, to: string|null}} Stretch */
/** @typedef {{instances: Instance[], total: number, cursor: string}} InstanceList */
/** @typedef {{channel: string, state: string, attempts: number, last_error: string|null}} Delivery */
/** @typedef {{id: string, instance_id: string|null, alert_type: string, message: string, sent_at: string, deliveries: Delivery[]}} Alert */

/**
 * A block of an event stream: name is "" for status changes; data is null for a block that only moves the cursor.
 * @typedef {{id: string|null, name: string, data: string|null}} Block
 */

export {};
