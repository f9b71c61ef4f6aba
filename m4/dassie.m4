dnl Macros of Dassie's configure.ac.

dnl DASSIE_CHECK_CFLAGS(VARIABLE, FLAGS)
dnl Puts those of FLAGS that the compiler knows into VARIABLE. clang only warns
dnl of an unknown flag, hence -Werror while asking.
AC_DEFUN([DASSIE_CHECK_CFLAGS], [
    $1=
    for dassie_flag in m4_normalize([$2]); do
        AC_MSG_CHECKING([whether $CC accepts $dassie_flag])
        dassie_save_CFLAGS=$CFLAGS
        CFLAGS="$CFLAGS -Werror $dassie_flag"
        AC_COMPILE_IFELSE([AC_LANG_SOURCE([[int dassie_conftest;]])],
            [AC_MSG_RESULT([yes])
             $1="${$1:+$$1 }$dassie_flag"],
            [AC_MSG_RESULT([no])])
        CFLAGS=$dassie_save_CFLAGS
    done
    AC_SUBST([$1])
])

dnl DASSIE_CHECK_LINK(FLAGS, [IF-YES], [IF-NO])
dnl Whether a program can be built with FLAGS.
AC_DEFUN([DASSIE_CHECK_LINK], [
    AC_MSG_CHECKING([whether $CC links with $1])
    dassie_save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS $1"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
        [dassie_links=yes], [dassie_links=no])
    CFLAGS=$dassie_save_CFLAGS
    AC_MSG_RESULT([$dassie_links])
    AS_IF([test "x$dassie_links" = xyes], [m4_default([$2], [:])],
        [m4_default([$3], [:])])
])
