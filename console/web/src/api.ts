// Asks the console's server, and says truthfully what became of a command.
import type { Alarm } from "./model";
import type { Ask, Done, Problem } from "./wire";

const ANSWER_MS = 15_000;

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "title" in body && "detail" in body;
}

/** The JSON at `path`. Throws an Error whose message a person can read. */
export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const limit = AbortSignal.timeout(ANSWER_MS);
  const response = await fetch(path, { signal: signal ? AbortSignal.any([signal, limit]) : limit });
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw new NotGiven(response.status, isProblem(body) ? body.detail || body.title : "");
  return body as T;
}

/** The server answered, and not with what was asked for. */
export class NotGiven extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail || `HTTP ${status}`);
  }
}

/** `unknown`: it may or may not be in the log, and can be sent again as it is. */
export type Outcome =
  { kind: "done" } | { kind: "refused"; why: string; alarm: Alarm | null } | { kind: "unknown" };

/** What an answer to a command means. Only 4xx is a refusal; any other answer does not say that nothing was done. */
export function outcome(status: number, body: unknown): Outcome {
  if (status === 200) return { kind: "done" };
  if (status < 400 || status >= 500 || status === 408) return { kind: "unknown" };
  const problem = isProblem(body) ? body : null;
  return {
    kind: "refused",
    why: problem?.detail || problem?.title || `HTTP ${status}`,
    alarm: problem?.alarm ?? null,
  };
}

export async function send(ask: Ask): Promise<Outcome> {
  try {
    const response = await fetch("/api/commands", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(ask),
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    return outcome(response.status, (await response.json().catch(() => null)) as Done | Problem | null);
  } catch {
    return { kind: "unknown" };
  }
}

/** A random UUID. `crypto.randomUUID` is missing where the page is not served from this machine or by TLS. */
export function uuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = [...bytes].map((byte, i) =>
    (i === 6 ? (byte & 0x0f) | 0x40 : i === 8 ? (byte & 0x3f) | 0x80 : byte).toString(16).padStart(2, "0"),
  );
  return [4, 6, 8, 10].reduceRight(
    (text, at) => `${text.slice(0, 2 * at)}-${text.slice(2 * at)}`,
    hex.join(""),
  );
}
