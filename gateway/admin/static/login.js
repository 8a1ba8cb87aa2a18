/** The dialog that asks for the password. */

import { authenticate, onLogin } from "./api.js";
import { $ } from "./dom.js";

let enter = null;

/** Asks until the password is right; what is behind the dialog stays as it is. */
onLogin((reason) => new Promise((resolve) => {
  enter = resolve;
  $("login-reason").textContent = reason;
  $("login-error").textContent = "";
  $("login").showModal();
  $("password").focus();
}));

$("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("login-submit").disabled = true;
  $("login-error").textContent = "";
  try {
    const token = await authenticate($("password").value);
    $("password").value = "";
    const done = enter;
    enter = null;
    $("login").close();
    done(token);
  } catch (error) {
    $("login-error").textContent = error.message;
    $("password").select();
  } finally {
    $("login-submit").disabled = false;
  }
});

$("login").addEventListener("close", () => enter && $("login").showModal());
