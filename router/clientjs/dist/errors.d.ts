/**
 * What went wrong on this side. `code` is one of
 *
 * - `timeout`: no reply came in time; the server may have handled the request
 * - `lost`: the connection ended before the reply; the server may have handled it
 * - `full`: the offline queue, or the browser's send buffer, holds as much as it may
 * - `closed`: the client is closed for good, by close() or by the server
 * - `plain`: a request is JSON and needs tideway.v1
 * - `credentials`: the token or ticket callback failed; `cause` has its error
 * - `protocol`: the server sent something that is no frame of tideway.v1
 */
export declare class TidewayError extends Error {
    readonly code: string;
    constructor(code: string, message: string, options?: {
        cause?: unknown;
    });
}
/** What the server refused: the error of a reply, or of something that was sent. */
export declare class ServerError extends TidewayError {
    constructor(error: {
        code?: string;
        message?: string;
    });
}
