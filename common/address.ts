/** Addresses over HTTP and HTTPS as people write them, which may have a login in them. */

/** An address over HTTP or HTTPS; undefined where a text is none. */
export function httpUrl(text: string | undefined): URL | undefined {
  const url = parsed(text);
  return url !== undefined && isLogin(url) ? url : undefined;
}

function parsed(text: string | undefined): URL | undefined {
  const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined;
  return url !== undefined && /^https?:$/.test(url.protocol) ? url : undefined;
}

/** Whether user and password are percent-encoded as they have to be: a bare `%` in a password is refused by every request. */
function isLogin({ username, password }: URL): boolean {
  try {
    decodeURIComponent(`${username}:${password}`);
    return true;
  } catch {
    return false;
  }
}

/**
 * What to do about a text that is no address, for messages.
 * @param write how one is written: `write http://host:9100/metrics`
 */
export function addressRemedy(text: string, write: string): string {
  if (!text.includes('@')) return write;
  const login = 'in its login, % is written %25, / %2F, ? %3F and # %23';
  return parsed(text) === undefined ? `${write}; ${login}` : login;
}

const PASSWORD = /^(\s*[a-z][a-z0-9+.-]*:[/\\]*[^/\\?#@:]*:)[^/\\?#]*@/i;
/** In a text that is no address: all that may be one. */
const MAYBE_PASSWORD = /^((?:\s*[a-z][a-z0-9+.-]*:[/\\]+)?[^@:]*:).*@/is;

/** An address as messages may show it, also where it is none: with a mask for the password that may stand in it. */
export function withoutPassword(text: string, mask = '***'): string {
  const isAddress = URL.canParse(text) && new URL(text).host !== '';
  return text.replace(isAddress ? PASSWORD : MAYBE_PASSWORD, `$1${mask}@`);
}
