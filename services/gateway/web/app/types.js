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
 * @property {string} updated_at
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

/**
 * @typedef {object} OfOwner
 * @property {string} user_id
 * @property {string} user_email
 * @property {string} user_name
 * @property {number|null} cpu_usage
 * @property {number|null} memory_usage
 * @property {boolean|null} vscode_responsive
 * @property {boolean|null} has_code_server
 */
/** @typedef {Instance & OfOwner} AdminInstance */

/**
 * @typedef {object} AuditEntry
 * @property {number} id
 * @property {string} at
 * @property {string|null} actor_id
 * @property {string|null} actor_email
 * @property {string} action
 * @property {string|null} target
 * @property {string|null} address
 * @property {string|null} details
 */

/**
 * @typedef {object} AdminUser
 * @property {string} id
 * @property {string} email
 * @property {string} name
 * @property {string} plan
 * @property {string|null} plan_expires
 * @property {boolean} is_admin
 * @property {boolean} disabled
 * @property {string} created_at
 * @property {string|null} last_login_at
 * @property {number} instances
 * @property {number} active_tunnels
 */

/**
 * @typedef {object} Ticket
 * @property {string} tunnel_token
 * @property {string} server_host
 * @property {number} server_port
 * @property {number} local_port
 * @property {number} remote_port
 * @property {string} expires_at
 */

/**
 * @typedef {object} UserSession
 * @property {string} id
 * @property {string} created_at
 * @property {string} last_used_at
 * @property {string} expires_at
 * @property {string|null} address
 * @property {string|null} user_agent
 * @property {boolean} current
 */

/**
 * @typedef {object} Server
 * @property {string} id
 * @property {string} host
 * @property {number} port
 * @property {string} region
 * @property {number} max_tunnels
 * @property {number} tunnels
 * @property {boolean} active
 * @property {boolean} alive
 * @property {string|null} lease_expires_at
 * @property {number} utilization
 */

/**
 * @typedef {object} Stats
 * @property {number} total_users
 * @property {number} total_instances
 * @property {Record<Status, number>} by_status
 * @property {number} active_tunnels
 * @property {{sse: number, socketio: number}|null} active_streams
 * @property {number|null} heartbeats_per_second
 * @property {Server[]} servers
 * @property {number|null} uptime
 */

/**
 * @typedef {object} Sample
 * @property {number} timestamp
 * @property {boolean|null} vscode_responsive
 * @property {boolean|null} has_code_server
 * @property {number|null} cpu_usage
 * @property {number|null} memory_usage
 */

/**
 * @typedef {object} Entry
 * @property {number} id
 * @property {string} status
 * @property {string|null} reason
 * @property {string} timestamp
 */

/**
 * @typedef {object} Uptime
 * @property {number} uptime_percentage
 * @property {number} total_downtime_ms
 * @property {number} incident_count
 * @property {number} history_span_ms
 */

/**
 * @typedef {object} TunnelSession
 * @property {string} id
 * @property {string} state
 * @property {string|null} server_id
 * @property {number|null} remote_port
 * @property {string} created_at
 * @property {string|null} connected_at
 * @property {string|null} closed_at
 * @property {string|null} close_reason
 * @property {number|null} bytes_in
 * @property {number|null} bytes_out
 * @property {number|null} bytes_transferred
 */

export {};
