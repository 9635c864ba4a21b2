import { useEffect, useReducer, useRef, useState } from "react";
import { connect } from "tideway-client";
import type { Client, Gap, Meta, Options, State } from "tideway-client";

/**
 * A connection for as long as the component is mounted. client is null while the
 * page is rendered on a server, and until the first effect. Another url makes
 * another client; options are read when it is made.
 */
export function useTideway<M extends object = Record<string, any>>(
  url: string,
  options?: Options,
): { client: Client<M> | null; state: State } {
  const latest = useRef(options);
  latest.current = options;
  const [client, setClient] = useState<Client<M> | null>(null);
  const [state, setState] = useState<State>("connecting");
  useEffect(() => {
    const made = connect<M>(url, { ...latest.current, manual: true });
    const off = made.on("state", (e) => setState(e.state));
    setState("connecting");
    setClient(made);
    return () => {
      off();
      made.close();
      setClient(null);
    };
  }, [url]);
  // One commit later: by then the effects of useGroup listen, and miss nothing.
  useEffect(() => client?.open(), [client]);
  return { client, state };
}

/**
 * What reduce makes of a group's messages, from initial on. gap is called when
 * messages were missed: fetch what you show anew. Another client or group starts
 * from initial again.
 */
export function useGroup<S, G extends object = Record<string, any>>(
  client: Client<any> | null,
  group: string,
  reduce: (state: S, message: G[keyof G], meta: Meta) => S,
  initial: S,
  gap?: (gap: Gap) => void,
): S {
  const latest = useRef({ reduce, initial, gap });
  latest.current = { reduce, initial, gap };
  const [state, apply] = useReducer((s: S, change: (s: S) => S) => change(s), initial);
  useEffect(() => {
    apply(() => latest.current.initial);
    if (!client) return;
    const g = client.group<G>(group);
    const offs = [
      g.on("message", (message, meta) => apply((s) => latest.current.reduce(s, message, meta))),
      g.on("gap", (missed) => latest.current.gap?.(missed)),
    ];
    return () => offs.forEach((off) => off());
  }, [client, group]);
  return state;
}
