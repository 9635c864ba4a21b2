import type { Client, Gap, Meta, Options, State } from "tideway-client";
/**
 * A connection for as long as the component is mounted. client is null while the
 * page is rendered on a server, and until the first effect. Another url makes
 * another client; options are read when it is made.
 */
export declare function useTideway<M extends object = Record<string, any>>(url: string, options?: Options): {
    client: Client<M> | null;
    state: State;
};
/**
 * What reduce makes of a group's messages, from initial on. gap is called when
 * messages were missed: fetch what you show anew. Another client or group starts
 * from initial again.
 */
export declare function useGroup<S, G extends object = Record<string, any>>(client: Client<any> | null, group: string, reduce: (state: S, message: G[keyof G], meta: Meta) => S, initial: S, gap?: (gap: Gap) => void): S;
