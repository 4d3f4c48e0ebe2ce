// Signing in. The token or key stays in this tab: the cookie that comes for it only reads, and whatever changes
// something shows the token itself.

const KEPT = "stellwerk-token";

export const token = () => sessionStorage.getItem(KEPT);

async function signIn(shown) {
  const answer = await fetch("/login", { method: "POST", headers: { Authorization: `Bearer ${shown}` } });
  if (answer.ok) sessionStorage.setItem(KEPT, shown);
  return answer;
}

export async function signOut() {
  sessionStorage.removeItem(KEPT);
  await fetch("/logout", { method: "POST", redirect: "manual" });
  location.replace("/");
}

// A request with the token; without one in this tab, it is asked for by signing in again.
export async function change(address, body) {
  if (!token()) throw new Error("sign in with the token or key first: the page's cookie only reads");
  return fetch(address, {
    method: "POST",
    headers: { Authorization: `Bearer ${token()}`, "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
}

// `stellwerk up` prints an address with the token behind the #, which browsers send to no server.
async function takeFragment() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, "", location.pathname);
  const answer = await signIn(decodeURIComponent(found[1]));
  if (answer.ok && document.querySelector("form")) location.replace("/");
}

const form = document.querySelector("form");
form?.addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const answer = await signIn(form.elements.key.value.trim());
  if (answer.ok) location.replace("/");
  else document.getElementById("refused").hidden = false;
});

export const ready = takeFragment();
